"""Leaving a processor to others, for now or for good.

Two processes that wake each other in turns are drawn to one processor, where neither can poll for the other; left to
itself the scheduler may take a second to part them. A poller that finds nothing yields its processor at once: the other
side then runs there, and stays there.
"""

from __future__ import annotations

import ctypes
import os

from worker_client.system.refusal import is_refusal

_libc = ctypes.CDLL(None)

give_way = _libc.sched_yield
"""Let others run first that wait for this processor. os.sched_yield would keep the threads of this process from it."""


_may_leave = True


def leave_processor() -> None:
    """Move this thread to another of the processors it may use, if there is one. Its affinity stays as it is.

    A call can do without: where it is refused, nothing happens, and it is not asked for again.
    """
    global _may_leave
    if not _may_leave:
        return
    try:
        allowed = os.sched_getaffinity(0)
        others = allowed - {_libc.sched_getcpu()}
        if others and len(others) < len(allowed):
            os.sched_setaffinity(0, others)
            os.sched_setaffinity(0, allowed)
    except OSError as error:  # a filter of system calls; or a control group has just got other processors
        _may_leave = not is_refusal(error)
