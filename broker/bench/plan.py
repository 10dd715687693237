"""The plan of a sweep: its cases, and how long they may take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker.counters.counted import counted

POISSON = "poisson"
CONSTANT = "constant"
ARRIVALS = (POISSON, CONSTANT)


@dataclass(frozen=True, slots=True)
class Load:
    """How requests are sent. `concurrency` is the maximum number of concurrent calls per worker, each in a thread.

    Closed loop, without a `rate`: each thread calls again as soon as it is answered. Open loop: `rate` requests a
    second in all, at moments planned beforehand (`load/arrivals.py`), whether or not the one before is answered.
    """

    concurrency: int = 1
    rate: float | None = None
    arrivals: str = POISSON

    def __str__(self) -> str:
        at_once = f", {self.concurrency} at once" if self.concurrency > 1 else ""
        if self.rate is None:
            return f"closed loop{at_once}"
        return f"{self.rate:,.10g}/s {self.arrivals}{at_once}"


@dataclass(frozen=True, slots=True)
class Case:
    """`rows` is 0 for a signature whose requests have no rows."""

    workers: int
    rows: int
    load: Load

    def __str__(self) -> str:
        workers = counted(self.workers, "worker")
        rows = f", {counted(self.rows, 'row')}" if self.rows else ""
        return f"{workers}{rows}, {self.load}"


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The sweep: every number of workers with every number of rows and every load.

    A window lasts `window_s` after `warm_up_s` that do not count; one with fewer than `least_calls` answers is made
    twice as long, up to `most_window_s`. A case ends when its last windows are stable (within `within`, a share), and
    after `most_windows` at the latest; the sweep begins no case after `limit_s`.
    """

    workers: tuple[int, ...] = (1, 2, 4, 8)
    rows: tuple[int, ...] = (1, 8)
    loads: tuple[Load, ...] = (Load(),)
    window_s: float = 1.0
    warm_up_s: float = 0.25
    most_windows: int = 10
    most_window_s: float = 16.0
    least_calls: int = 30
    within: float = 0.10
    percentile: float = 50.0
    limit_s: float = 600.0
    timeout_s: float | None = None
    seed: int = 0

    def cases(self) -> Iterator[Case]:
        """The number of workers changes least often: starting workers takes the most time."""
        for workers in self.workers:
            for load in self.loads:
                for rows in self.rows:
                    yield Case(workers, rows, load)

    def most_seconds(self, arms: int) -> float:
        """The longest time that the windows of all cases take, if none has to be made longer."""
        return len(list(self.cases())) * arms * self.most_windows * (self.window_s + self.warm_up_s)
