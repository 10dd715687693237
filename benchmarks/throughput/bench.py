"""What every target of `throughput` gets: the workbench, the numbers of workers, and how long to measure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from benchmarks import mobilenet
from benchmarks.harness.interleaved import Pace
from benchmarks.harness.workbench import Workbench

HEADLINE = 8
"""The number of workers that the targets are for."""
MOST_ASIDE = 6
MOST_IN_SWEEP = 3
"""Maximum windows of an arm, half as long, where no target depends on it."""


@dataclass
class ThroughputBench(Workbench):
    """`quick` is for tests: it runs one arm of each kind."""

    workers: tuple[int, ...]
    pace: Pace
    quick: bool = False
    beside: tuple[str, ...] = ()
    work_us: tuple[int, ...] = (0,)

    @property
    def headline(self) -> int:
        """The number of workers for the targets, or the number nearest to it."""
        return min(self.workers, key=lambda number: (abs(number - HEADLINE), number))

    @property
    def aside(self) -> Pace:
        """The pace for arms that have no target."""
        return self._less(MOST_ASIDE)

    @property
    def sweep(self) -> Pace:
        """The pace for numbers of workers that have no target."""
        return self._less(MOST_IN_SWEEP)

    def _less(self, most: int) -> Pace:
        return replace(self.pace, seconds=self.pace.seconds / 2, most=min(self.pace.most, most))

    def longer(self, times: float, more: int = 1) -> Pace:
        """The pace for models whose runs take longer; with `more` times as many rounds."""
        if self.quick:
            return self.pace
        return replace(self.pace, seconds=self.pace.seconds * times, most=self.pace.most * more)

    def tune(self, **models: str) -> None:
        """Let a broker measure its settings for these models while nothing else runs; brokers of arms then use them."""
        if not self.quick:
            with self.broker("tune", models):
                self.progress(0, 1, "tuned")

    @cached_property
    def mobilenet(self) -> str:
        self.progress(0, 1, "making the heavy model")
        return mobilenet.export()
