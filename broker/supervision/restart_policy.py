"""Decides when a broker's process that ended is started again. Knows no process and reads no clock.

The first restart is immediate; the next comes after 0.1 s, and each further one after twice the time: at most 5 s after
a process that served, 30 s after a process that never became ready, because the cause (a disk that hangs, a file that
is being copied) may pass. A process that served for a minute resets the pauses. Only a cause that cannot pass, such as
a wrong setting, ends the restarts, and immediately.
"""

from __future__ import annotations

from worker_client.ipc.backoff import Backoff

FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 5.0
LAST_PAUSE_OF_STARTS_SECONDS = 30.0
STABLE_SECONDS = 60.0


class RestartPolicy:
    """The restarts of one broker, by the ends of its processes so far."""

    def __init__(self) -> None:
        self.failed_starts = 0  # in a row
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, LAST_PAUSE_OF_STARTS_SECONDS)
        self._at_once = True

    def __repr__(self) -> str:
        return f"<RestartPolicy, {self.failed_starts} failed starts, {self._backoff!r}>"

    def begin_again(self) -> None:
        """Reset the pauses, because the cause of the ends is gone: the next restart is immediate."""
        self._at_once = True
        self._backoff.reset()

    def pause_s(self, served_s: float | None, can_pass: bool = True) -> float | None:
        """Seconds until the next start, after the end of a process that served for `served_s` (None: it never became
        ready). Returns None to give up, because the cause cannot pass."""
        self.failed_starts = self.failed_starts + 1 if served_s is None else 0
        if served_s is None and not can_pass:
            return None
        if served_s is not None and served_s >= STABLE_SECONDS:
            self.begin_again()
        if self._at_once:
            self._at_once = False
            return 0.0
        pause = self._backoff.next_s()
        return pause if served_s is None else min(pause, LAST_PAUSE_SECONDS)
