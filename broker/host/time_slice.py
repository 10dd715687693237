"""A thread that is soon done asks for short turns on its processor, and has them sooner.

Linux gives a processor to the thread with the earliest virtual deadline, which is the earlier the shorter the slice
that it asks for, and one that wakes takes it at once from another whose slice is longer. Its share of the processor
does not grow by that. (EEVDF: Stoica and Abdel-Wahab, "Earliest eligible virtual deadline first", 1995; slices for
SCHED_OTHER by sched_setattr(2), `sched_runtime`, since Linux 6.12.) No privilege is needed. Where there is no such
thing nothing happens.

The intake asks for it while it has pauses, as behind a web server, and once something else computes in its process: a
heavy model, or one that is loaded. Where workers in closed loops keep it busy there is nobody whom it should pass: it
would break into the turns of workers whose requests it can take together.
"""

from __future__ import annotations

import ctypes
import platform
import struct

SLICE_NS = 100_000
"""The shortest that there is; the usual one is 0.7 ms on one processor, 1.4 on two, 2.8 on eight."""

_NUMBERS = {"x86_64": (314, 315), "aarch64": (274, 275)}
"""Of the system calls sched_setattr and sched_getattr, for which older C libraries have no functions."""
_ATTR = struct.Struct("=IIQiIQQQII")
"""struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, util_min, util_max."""
_syscall = getattr(ctypes.CDLL(None), "syscall", None)
_RESET_ON_FORK = 1
_OTHER = 0


def ask_for(slice_ns: int) -> int:
    """For the calling thread, not for those that it starts. The slice it had before; 0 if it is given none."""
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
