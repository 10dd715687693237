"""Which runs are under way at the same time: if the process is ended during these runs, any of them may be the cause.

A run that holds the interpreter's lock stops all others, which then seem to have no end either. So every request that
runs while another one does is marked in its time line (BESIDE): its worker has it run again, one by one with the others
(`scheduling/probation.py`), as if both were of one batch, before it believes that this very request has no end.
"""

from __future__ import annotations

import threading
from typing import Protocol

from broker.counters.run_record import STARTED_NS, RunLine


class Marked(Protocol):
    """A runner, as far as its runs are marked."""

    line: RunLine

    def mark_beside(self) -> None: ...


class ConcurrentRuns:
    """All runners of a process. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runners: tuple[Marked, ...] = ()  # replaced, never changed
        self.several = False
        """There is more than one; else a run is always alone."""

    def join(self, runner: Marked) -> None:
        with self._lock:
            self._set((*self._runners, runner))

    def leave(self, runner: Marked) -> None:
        """Its thread ends."""
        with self._lock:
            self._set(tuple(other for other in self._runners if other is not runner))

    def _set(self, runners: tuple[Marked, ...]) -> None:
        self._runners = runners
        self.several = len(runners) > 1

    def meets(self, runner: Marked) -> bool:
        """Whether others run while `runner` begins; what they run is marked."""
        met = False
        for other in self._runners:
            if other.line.words[STARTED_NS] and other is not runner:
                met = True
                other.mark_beside()
        return met
