"""Leaving a processor to other threads, for a moment or permanently.

The scheduler tends to put two processes that wake each other in turn on one processor, where neither can poll for the
other, and it may take a second to separate them. A poller that finds nothing leaves its processor at once: the other
side then runs there, and stays there.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

from worker_client.system.refusal import is_refusal

_libc: Any = ctypes.CDLL(None) if sys.platform != "win32" else None

give_way: Callable[[], object] = _libc.sched_yield if _libc is not None else lambda: None
"""Let threads that wait for this processor run first. os.sched_yield would keep other threads of this process from
running."""


_may_leave = True


def leave_processor() -> None:
    """Move this thread to another of the processors it may use, if there is one. Its affinity stays as it is.

    This is optional: if the system refuses it, nothing happens, and it is not tried again.
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
    # a filter of system calls refused it, or a control group just got other processors
    except OSError as error:
        _may_leave = not is_refusal(error)
