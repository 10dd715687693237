"""Requests short time slices for a thread with short work, so that it gets the processor sooner.

Linux gives a processor to the thread with the earliest virtual deadline, and a shorter slice makes the deadline
earlier; a thread that wakes preempts one with a longer slice immediately. Its share of the processor does not grow.
(EEVDF: Stoica and Abdel-Wahab, "Earliest eligible virtual deadline first", 1995; slices for SCHED_OTHER by
sched_setattr(2), `sched_runtime`, since Linux 6.12.) No privilege is needed. On other kernels nothing happens.

The intake requests short slices while it has pauses, as behind a web server, and when other threads of its process
compute: a heavy model, or one that is being loaded. When workers in closed loops keep it busy, short slices would do
harm: it would preempt workers whose requests it can take together.
"""

from __future__ import annotations

import ctypes
import platform
import struct

SLICE_NS = 100_000
"""The shortest possible slice; the usual one is 0.7 ms on one processor, 1.4 on two, 2.8 on eight."""

_NUMBERS = {"x86_64": (314, 315), "aarch64": (274, 275)}
"""The numbers of the system calls sched_setattr and sched_getattr, for which older C libraries have no functions."""
_ATTR = struct.Struct("=IIQiIQQQII")
"""struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, util_min, util_max."""
_syscall = getattr(ctypes.CDLL(None), "syscall", None)
_RESET_ON_FORK = 1
_OTHER = 0


def ask_for(slice_ns: int) -> int:
    """Set the slice of the calling thread, not of threads that it starts. Returns the previous slice; 0 if it cannot be
    set."""
    set_number, get_number = _NUMBERS.get(platform.machine(), (0, 0))
    if _syscall is None or not set_number:
        return 0
    found = ctypes.create_string_buffer(_ATTR.size)
    if _syscall(get_number, 0, found, _ATTR.size, 0) != 0:
        return 0
    size, policy, flags, nice, priority, runtime, *others = _ATTR.unpack(found.raw)
    chosen_for_us, no_slices = policy != _OTHER, not runtime
    if chosen_for_us or no_slices:
        return 0
    wanted = _ATTR.pack(size, policy, flags | _RESET_ON_FORK, nice, priority, slice_ns, *others)
    return int(runtime) if _syscall(set_number, 0, wanted, 0) == 0 else 0
