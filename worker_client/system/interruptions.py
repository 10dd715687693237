"""Tells whether a thread lost its processor to other threads of this machine, or to the host of a virtual machine.

A thread whose clock jumps did not run for a while. Linux counts how often it has taken a processor from each thread
that wanted to go on (`ru_nivcsw` of getrusage(2), which sched_yield(2) raises, too). If the count has not changed, the
host took the processor, whatever the thread did, and nobody here needed it.
"""

from __future__ import annotations

import sys
import threading

_EVERY_NS = 5_000_000

if sys.platform == "linux":
    import resource

    def interruptions() -> int:
        """How often the calling thread was interrupted so far."""
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw

else:  # only the double of worker_client.testing runs there, and nothing polls

    def interruptions() -> int:
        return 0


class Interruptions:
    """Of the thread that asks. Threads of the kernel interrupt any other for moments: call `mark` at `due_ns`, so that
    only recent ones count. It takes a microsecond."""

    __slots__ = ("_count", "_thread", "due_ns")

    def __init__(self) -> None:
        self.due_ns = 0
        self._thread = self._count = 0

    def mark(self, now_ns: int) -> None:
        """Forget those so far."""
        self.due_ns = now_ns + _EVERY_NS
        self._thread, self._count = threading.get_ident(), interruptions()

    def happened(self, now_ns: int) -> bool:
        """Whether there was one since this thread has asked, or marked, last. True if that was another thread."""
        before = self._thread, self._count
        self.mark(now_ns)
        return (self._thread, self._count) != before
