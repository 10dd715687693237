"""When the requests of an open loop are meant to be sent. Pure: the same seed gives the same plan.

A request's time counts from its planned moment, not from the moment at which a caller that waited for the previous
answer sent it. Otherwise a stall of the server would hide the requests that it kept from being sent: "coordinated
omission" (Gil Tene, "How NOT to Measure Latency"; wrk2's README; HdrHistogram's recordValueWithExpectedInterval).
"""

from __future__ import annotations

import numpy as np

from broker.bench.plan import POISSON, Load

MOST_CALLS = 1_000_000
"""Maximum calls of one thread in one window, planned or not: a bound of the load besides the time."""


def planned_ns(load: Load, worker: int, workers: int, seconds: float, seed: list[int]) -> np.ndarray:
    """Nanoseconds from the beginning, ascending, below `seconds`: int64 [requests of this worker].

    Constant: request k of all is due at k / rate and belongs to worker k modulo `workers`. Poisson: each worker's
    gaps are exponential with mean workers / rate, so that all of them together are a Poisson process of `rate`.
    """
    assert load.rate is not None
    mean_gap = workers / load.rate
    if load.arrivals == POISSON:
        moments = _poisson(mean_gap, seconds, np.random.default_rng([*seed, worker]))
    else:
        moments = worker / load.rate + mean_gap * np.arange(min(MOST_CALLS, int(seconds / mean_gap) + 1))
    return (moments[moments < seconds][:MOST_CALLS] * 1e9).astype(np.int64)


def _poisson(mean_gap: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    expected = seconds / mean_gap
    some = min(MOST_CALLS, int(expected + 6 * expected**0.5) + 16)
    moments = np.cumsum(rng.exponential(mean_gap, some))
    while moments[-1] < seconds and len(moments) < MOST_CALLS:
        moments = np.concatenate([moments, moments[-1] + np.cumsum(rng.exponential(mean_gap, some))])
    return moments
