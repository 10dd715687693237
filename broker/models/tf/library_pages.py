"""Releases memory that only the import of large libraries has touched.

Importing TensorFlow reads some 300 MB of its shared libraries, most of it relocations and start-up code that nothing
reads again. Those pages are clean copies of the files: the kernel drops them when memory gets short, and reads them
again from its page cache when they are used. `drop` releases them immediately, so that the process only occupies memory
that it uses; each page used again costs one minor fault.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_LEAST_BYTES = 1 << 20
"""Minimum size of a mapping that is worth a system call."""


class Mapping(NamedTuple):
    """A range of addresses that maps a part of a shared library."""

    start: int
    nbytes: int


def drop() -> int:
    """Release the pages of this process's shared libraries; returns how many bytes of addresses they span.

    Called on any thread; others may run meanwhile. Does nothing if the kernel does not list mappings.
    """
    try:
        with Path("/proc/self/smaps").open() as smaps:
            mappings = list(unchanged(smaps))
    except OSError:
        return 0
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return sum(
        mapping.nbytes
        for mapping in mappings
        if madvise(mapping.start, mapping.nbytes, mmap.MADV_DONTNEED) == 0
    )


def unchanged(smaps: Iterable[str]) -> Iterator[Mapping]:
    """The mappings in /proc/PID/smaps whose pages are identical to the file of a shared library.

    They are private, not writable, and have no modified page: pages that the dynamic linker has relocated and then
    protected are read-only as well, but would be lost.
    """
    found: Mapping | None = None
    for line in smaps:
        first, *rest = line.split(None, 5)
        if first == "Anonymous:" and rest[0] == "0" and found is not None:
            yield found
        if not first.endswith(":"):
            found = _of_library(first, *rest)


def _of_library(
    addresses: str, access: str, _offset: str, _device: str, inode: str, path: str = ""
) -> Mapping | None:
    start, end = (int(address, 16) for address in addresses.split("-"))
    ours = access in ("r--p", "r-xp") and inode != "0" and ".so" in path.rpartition("/")[2]
    return Mapping(start, end - start) if ours and end - start >= _LEAST_BYTES else None
