"""Results of windows of several workers: answers per second, their times, and the CPU time they cost.

Windows are repeated until they are stable (`broker.bench.stability`), as long as the plan allows. An arm that does not
become stable is reported as such, and its spread shows by how much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.sampling import LatencyWindow, Spread, per_round
from broker.bench.load.samples import Window
from broker.bench.stability import stable

STABLE_WITHIN = 0.10


@dataclass(frozen=True)
class RateWindow:
    """One window of several workers. `cores` are the cores that the arm's whole tree of processes kept busy, `others`
    the cores that anything else kept busy: a window with many of them says less.

    `beside_per_s` are the answers of workers that only made load; `batch_rows` the broker's runs by their rows;
    `throttled_s` is for how long a quota kept the arm's processors still.
    """

    per_s: float
    latency: LatencyWindow
    cores: float
    others: float = 0.0
    beside_per_s: float = 0.0
    batch_rows: dict[int, int] = field(default_factory=dict)
    throttled_s: float = 0.0

    @classmethod
    def of(cls, window: Window, beside_per_s: float, batch_rows: dict[int, int]) -> RateWindow:
        latency = LatencyWindow.of(window.taken_ns)
        cores = window.cpu_s / window.seconds
        return cls(window.per_s, latency, cores, window.others, beside_per_s, batch_rows)

    @property
    def cpu_s_per_1000(self) -> float:
        return 1000 * self.cores / self.per_s


def by_rate(window: RateWindow) -> float:
    return window.per_s


def by_p50(window: RateWindow) -> float:
    return window.latency.p50_ns


def by_p99(window: RateWindow) -> float:
    return window.latency.p99_ns


def by_throttled(window: RateWindow) -> float:
    return window.throttled_s


def by_longest(window: RateWindow) -> float:
    return window.latency.longest_ns


def by_cpu(window: RateWindow) -> float:
    return window.cpu_s_per_1000


def by_others(window: RateWindow) -> float:
    return window.others


def by_beside(window: RateWindow) -> float:
    return window.beside_per_s


@dataclass
class RateSeries:
    """One arm's windows. `steady` picks the value that has to become stable; `facts` are shown beside the label."""

    name: str
    label: str
    facts: dict[str, Any] = field(default_factory=dict)
    steady: Callable[[RateWindow], float] = by_rate
    windows: list[RateWindow] = field(default_factory=list)
    checked: int = 0

    @property
    def stable(self) -> bool:
        return stable([(self.steady(window),) for window in self.windows], STABLE_WITHIN)

    def of(self, pick: Callable[[RateWindow], float]) -> Spread:
        return Spread.of([pick(window) for window in self.windows])

    @property
    def per_s(self) -> Spread:
        return self.of(by_rate)

    @property
    def batch_rows(self) -> Counter[int]:
        """Runs by their rows, over all windows."""
        total: Counter[int] = Counter()
        for window in self.windows:
            total.update(window.batch_rows)
        return total


def ratio(one: RateSeries, other: RateSeries, pick: Callable[[RateWindow], float] = by_rate) -> Spread:
    """Within each round, as in `sampling.ratio`."""
    return per_round(lambda a, b: a / b, one, other, pick=pick)


def beside_best(one: RateSeries, *several: RateSeries) -> Spread:
    """`one` over the best of `several`, within each round; the best is the one that was best in the other half of the
    rounds, every second one.

    Several arms that are alike differ by chance, and the best of them by their own rounds was lucky in these: `one` may
    be the very same as they are and yet lose to it. What it is compared with must be chosen by other rounds.
    """
    by_half = [_best_in(several, slice(1 - half, None, 2)) for half in (0, 1)]
    beside = [by_half[number % 2].windows[number] for number in range(len(one.windows))]
    return Spread.of([by_rate(ours) / by_rate(theirs) for ours, theirs in zip(one.windows, beside)])


def _best_in(several: Sequence[RateSeries], rounds: slice) -> RateSeries:
    def rate(series: RateSeries) -> float:
        return median([by_rate(window) for window in series.windows[rounds] or series.windows])

    return max(several, key=rate)


def best(*several: RateSeries) -> RateSeries:
    """The one of the highest median. Not the best of each round, which would be an arm made of luck."""
    return _best_in(several, slice(None))
