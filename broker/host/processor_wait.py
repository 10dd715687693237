"""Measures how long a thread was ready to run but had no processor: time that says nothing about the model it runs.

With more threads than cores, a run of 30 microseconds takes 4 to 16 milliseconds by the clock if its thread must wait
for a processor. Linux counts that time for each thread (/proc/thread-self/schedstat, the second number; proc(5)). Where
it does not (CONFIG_SCHED_INFO is off, /proc is hidden), all the time counts as the run's.
"""

from __future__ import annotations

import os

_PATH = "/proc/thread-self/schedstat"
_MOST_BYTES = 128
_EVERY_NS = 5_000_000


class ProcessorWait:
    """The waiting time of one thread. A reading takes microseconds: call `mark` when there is no work, `lost_ns` after
    long runs."""

    __slots__ = ("_waited_ns", "due_ns")

    def __init__(self) -> None:
        self.due_ns = 0  # when the next mark is due
        self._waited_ns = 0

    def mark(self, now_ns: int) -> None:
        """Exclude the waiting so far from the next run. Called between two runs."""
        self.due_ns = now_ns + _EVERY_NS
        self._waited_ns = waited_ns()

    def lost_ns(self, now_ns: int) -> int:
        """The waiting time since the last `mark`, or since the last call."""
        before = self._waited_ns
        self.mark(now_ns)
        return max(0, self._waited_ns - before)


def waited_ns() -> int:
    """The waiting time of the calling thread so far. The file is opened each time: other code could close a descriptor
    that is kept open, and descriptors could run out."""
    try:
        fd = os.open(_PATH, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(fd, _MOST_BYTES).split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    finally:
        os.close(fd)
