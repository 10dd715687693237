"""Percentiles of windows, and what many windows of one arm say together. Pure arithmetic.

A window is a short run of calls of one arm; a round is one window of every arm of a target. The machine drifts (other
work, clock frequency, memory), so an arm's figure is the median over its windows, and two arms are compared inside
each round, where they met the same machine; the median of those ratios is the ratio that is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from broker.bench.load.samples import nearest_rank


@dataclass(frozen=True)
class LatencyWindow:
    """How long the calls of one window took, in nanoseconds."""

    p50_ns: int
    p90_ns: int
    p99_ns: int
    samples: int
    longest_ns: int = 0

    @classmethod
    def of(cls, taken_ns: Sequence[int] | np.ndarray) -> LatencyWindow:
        ordered = np.sort(np.asarray(taken_ns, np.int64))
        p50_ns, p90_ns, p99_ns = (int(nearest_rank(ordered, percentile)) for percentile in (50, 90, 99))
        return cls(p50_ns, p90_ns, p99_ns, len(ordered), int(ordered[-1]))


@dataclass(frozen=True)
class Spread:
    """The median over the rounds, and the lowest and highest round; `rounds` are all of them, where they are known."""

    median: float
    low: float
    high: float
    rounds: tuple[float, ...] = field(default=(), compare=False)

    @classmethod
    def exact(cls, value: float) -> Spread:
        """Of a value that was measured once."""
        return cls(value, value, value)

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values), tuple(values))


@dataclass
class Series:
    """One arm's windows, one a round, and how many of its answers were compared with the expected ones."""

    name: str
    label: str
    windows: list[LatencyWindow] = field(default_factory=list)
    checked: int = 0

    @property
    def samples(self) -> int:
        return sum(window.samples for window in self.windows)

    def ns(self, pick: Callable[[LatencyWindow], float]) -> Spread:
        return Spread.of([pick(window) for window in self.windows])

    @property
    def p50_ns(self) -> Spread:
        return self.ns(lambda window: window.p50_ns)

    @property
    def p90_ns(self) -> Spread:
        return self.ns(lambda window: window.p90_ns)

    @property
    def p99_ns(self) -> Spread:
        return self.ns(lambda window: window.p99_ns)


def p50_ns(window: LatencyWindow) -> float:
    return window.p50_ns


def per_round(combine: Callable[..., float], *series: Any, pick: Callable[[Any], float] = p50_ns) -> Spread:
    """`combine` of what `pick` takes of the arms' windows (their p50 in nanoseconds), within each round."""
    rounds = zip(*(one.windows for one in series), strict=True)
    return Spread.of([combine(*map(pick, windows)) for windows in rounds])


def ratio(one: Series, other: Series) -> Spread:
    return per_round(lambda a, b: a / b, one, other)
