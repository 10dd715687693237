"""A real seccomp filter that refuses system calls, as hardened units and containers have."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

import pytest

_X86_64 = {
    "sched_yield": 24,
    "madvise": 28,
    "flock": 73,
    "fchmod": 91,
    "setpriority": 141,
    "mlock": 149,
    "prctl": 157,
    "setrlimit": 160,
    "sched_setaffinity": 203,
    "sched_getaffinity": 204,
    "clock_nanosleep": 230,
    "mbind": 237,
    "rt_sigtimedwait": 128,
    "ioprio_set": 251,
    "unshare": 272,
    "fallocate": 285,
    "eventfd2": 290,
    "pipe2": 293,
    "prlimit64": 302,
    "getcpu": 309,
    "sched_setattr": 314,
    "sched_getattr": 315,
    "getrandom": 318,
    "memfd_create": 319,
    "membarrier": 324,
    "statx": 332,
    "rseq": 334,
    "pidfd_open": 434,
    "close_range": 436,
}
_AARCH64 = {
    "ioprio_set": 30,
    "flock": 32,
    "fallocate": 47,
    "fchmod": 52,
    "eventfd2": 19,
    "pipe2": 59,
    "unshare": 97,
    "clock_nanosleep": 115,
    "sched_setaffinity": 122,
    "sched_getaffinity": 123,
    "sched_yield": 124,
    "rt_sigtimedwait": 137,
    "setpriority": 140,
    "setrlimit": 164,
    "prctl": 167,
    "getcpu": 168,
    "mlock": 228,
    "madvise": 233,
    "mbind": 235,
    "prlimit64": 261,
    "sched_setattr": 274,
    "sched_getattr": 275,
    "getrandom": 278,
    "memfd_create": 279,
    "membarrier": 283,
    "statx": 291,
    "rseq": 293,
    "pidfd_open": 434,
    "close_range": 436,
}
NUMBERS = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(platform.machine(), {})

needed = pytest.mark.skipif(
    not NUMBERS, reason="the numbers of this machine's system calls are not known here"
)

_LOAD_NUMBER = 0x20, 0, 0, 0  # BPF_LD | BPF_W | BPF_ABS: struct seccomp_data begins with it
_IF_EQUAL, _RETURN = 0x15, 0x06
_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000
_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2

_prctl = ctypes.CDLL(None, use_errno=True).prctl  # now, as nothing may be loaded between a fork and exec


def refuse(*calls: str, error: int = errno.EPERM) -> None:
    """From now on, in this process and all its children."""
    program = [_LOAD_NUMBER]
    for call in calls:
        program += [(_IF_EQUAL, 0, 1, NUMBERS[call]), (_RETURN, 0, 0, _ERRNO | error)]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    for arguments in ((_NO_NEW_PRIVS, 1, 0), (_SET_SECCOMP, _MODE_FILTER, ctypes.byref(filter_))):
        if _prctl(*arguments, 0, 0):
            raise OSError(ctypes.get_errno(), "no seccomp filter")
