"""Measures how long a thread was ready to run but other threads of this machine had its processor.

With more threads than cores, a run of 30 microseconds takes 4 to 16 milliseconds by the clock if its thread must wait
for a processor: time that says nothing about the model it runs. And a thread whose clock jumps has lost its processor
either to such threads, or to the host of a virtual machine, whatever it did: then nobody here needed the processor.

Linux counts the time of the first kind for each thread (/proc/thread-self/schedstat, the second number; proc(5)). Where
it does not (CONFIG_SCHED_INFO is off, /proc is hidden), runs count with all their time, and every loss counts as one to
other threads.
"""

from __future__ import annotations

import os
import threading

_PATH = "/proc/thread-self/schedstat"
_MOST_BYTES = 128


class ProcessorWait:
    """The waiting time of one thread. A reading takes microseconds: call `mark` when there is no work, the others after
    long runs and losses."""

    __slots__ = ("_every_ns", "_thread", "_waited_ns", "due_ns")

    def __init__(self, every_ns: int = 5_000_000) -> None:
        """`every_ns`: how often to mark."""
        self.due_ns = 0  # when the next mark is due
        self._every_ns = every_ns
        self._thread = 0
        self._waited_ns = 0

    def mark(self, now_ns: int) -> None:
        """Exclude the waiting so far from the next run. Called between two runs."""
        self.due_ns = now_ns + self._every_ns
        self._thread = threading.get_ident()
        self._waited_ns = waited_ns()

    def lost_ns(self, now_ns: int) -> int:
        """The waiting time since the last `mark`, or since the last call."""
        before = self._waited_ns
        self.mark(now_ns)
        return max(0, self._waited_ns - before)

    def explains(self, lost_ns: int, now_ns: int) -> bool:
        """Whether this thread has waited for most of a time that has just passed. True where that is not known."""
        thread = self._thread
        waited = self.lost_ns(now_ns)
        return not self._waited_ns or thread != self._thread or waited > lost_ns // 2


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
