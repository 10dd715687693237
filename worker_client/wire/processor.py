"""Which processor a thread is on, and moving off it.

Two processes that wake each other in turns are drawn to one processor, where neither can poll for the other; left to
itself the scheduler may take a second to part them. Whoever is about to try polling parts them at once.
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None)


def current_processor() -> int:
    """The number of the processor this thread runs on; -1 where that cannot be told."""
    number: int = _libc.sched_getcpu()
    return number


def leave_processor(number: int) -> None:
    """Move this thread to another of its processors, if it is on this one and has another. Its affinity stays."""
    if number < 0 or current_processor() != number:
        return
    allowed = os.sched_getaffinity(0)
    others = allowed - {number}
    if others:
        os.sched_setaffinity(0, others)
        os.sched_setaffinity(0, allowed)
