"""Shared pages mapped without a descriptor. Before Python 3.13, which has `trackfd=False`, Python's mmap keeps a
descriptor of its own for each mapping.

A worker with 64 calls in flight maps up to 130 segments, and its broker as many for each such worker. They would need
most of the 1,024 descriptors that a process usually has.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from typing import Any

_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_ssize_t,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def map_shared(fd: int, nbytes: int) -> memoryview:
    """Map the whole file for reading and writing. It is unmapped with the last view of it; `fd` still belongs to the
    caller.

    Raises OSError. The file must have that size: an access beyond its end would raise SIGBUS.
    """
    if os.fstat(fd).st_size < nbytes or nbytes <= 0:
        raise ValueError(f"a segment of {os.fstat(fd).st_size:,} bytes cannot be mapped as {nbytes:,}")
    if sys.version_info >= (3, 13):
        return memoryview(mmap.mmap(fd, nbytes, trackfd=False))
    return memoryview(_array(fd, nbytes)).cast("B")


def _array(fd: int, nbytes: int) -> Any:
    address = _libc.mmap(None, nbytes, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    if address == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    array = (ctypes.c_ubyte * nbytes).from_address(address)
    # Not at the interpreter's end, when threads may still use it: the end of the process unmaps it.
    weakref.finalize(array, _libc.munmap, address, nbytes).atexit = False
    return array
