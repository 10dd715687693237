"""The plan of an open loop: pure, the same for a seed, and together what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.bench.load.arrivals import MOST_CALLS, planned_ns
from broker.bench.plan import CONSTANT, POISSON, Load


def together(load: Load, workers: int, seconds: float, seed: list[int]) -> np.ndarray:
    return np.sort(np.concatenate([planned_ns(load, w, workers, seconds, seed) for w in range(workers)]))


@given(
    rate=st.floats(1, 5000),
    workers=st.integers(1, 9),
    seconds=st.floats(0.05, 2),
    seed=st.integers(0, 2**32 - 1),
    arrivals=st.sampled_from([POISSON, CONSTANT]),
)
def test_a_plan_ascends_ends_in_time_and_can_be_had_again(
    rate: float, workers: int, seconds: float, seed: int, arrivals: str
) -> None:
    load = Load(rate=rate, arrivals=arrivals)
    for worker in range(workers):
        moments = planned_ns(load, worker, workers, seconds, [seed])
        assert (np.diff(moments) >= 0).all()
        assert not len(moments) or (moments[0] >= 0 and moments[-1] < seconds * 1e9)
        assert (moments == planned_ns(load, worker, workers, seconds, [seed])).all()


def test_constant_arrivals_are_evenly_spaced_over_all_workers() -> None:
    moments = together(Load(rate=1000, arrivals=CONSTANT), 3, 0.5, [1])
    assert len(moments) == 500
    assert np.abs(np.diff(moments) - 1_000_000).max() <= 1  # rounded to nanoseconds


@pytest.mark.parametrize("workers", [1, 4])
def test_poisson_arrivals_have_exponential_gaps_of_the_rate(workers: int) -> None:
    """Mean and standard deviation of the gaps are 1 / rate, and the counts of equal spans vary as they should."""
    rate, seconds = 2000.0, 50.0
    moments = together(Load(rate=rate), workers, seconds, [7]) / 1e9
    gaps = np.diff(moments)
    assert gaps.mean() == pytest.approx(1 / rate, rel=0.02)
    assert gaps.std() == pytest.approx(1 / rate, rel=0.03)
    counts = np.histogram(moments, bins=1000, range=(0, seconds))[0]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.2)


def test_workers_and_windows_have_plans_of_their_own() -> None:
    load = Load(rate=500)
    plans = [planned_ns(load, worker, 2, 1.0, [1, window]).tolist() for worker in (0, 1) for window in (0, 1)]
    assert len({tuple(plan) for plan in plans}) == 4


@pytest.mark.parametrize("arrivals", [POISSON, CONSTANT])
def test_a_plan_is_bounded_in_number(arrivals: str) -> None:
    assert len(planned_ns(Load(rate=1e8, arrivals=arrivals), 0, 1, 10.0, [1])) <= MOST_CALLS
