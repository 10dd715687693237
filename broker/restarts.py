"""When a broker's process that ended is started again, and when that is given up. Knows no process and no clock.

At once the first time; then after 0.1 s, twice as long after each further end, at most 5 s. A process that served for a
minute begins anew. Five starts in a row that end before they are ready: there is no use in going on.
"""

from __future__ import annotations

from worker_client.wire.backoff import Backoff

FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 5.0
STABLE_SECONDS = 60.0
MAX_FAILED_STARTS = 5


class Restarts:
    """The ends of one broker's processes so far."""

    def __init__(self) -> None:
        self.failed_starts = 0  # in a row
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS)
        self._at_once = True

    def __repr__(self) -> str:
        return f"<Restarts, {self.failed_starts} failed starts, {self._backoff!r}>"

    def pause_s(self, served_s: float | None) -> float | None:
        """Seconds until the next start, after the end of a process that served for so long (None: it never became
        ready). None: give up."""
        self.failed_starts = self.failed_starts + 1 if served_s is None else 0
        if self.failed_starts >= MAX_FAILED_STARTS:
            return None
        if served_s is not None and served_s >= STABLE_SECONDS:
            self._at_once = True
            self._backoff.reset()
        if self._at_once:
            self._at_once = False
            return 0.0
        return self._backoff.next_s()
