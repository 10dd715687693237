"""/dev/shm, which holds the broker's semaphores and one of its locks: why a file cannot be created there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

FOLDER = Path("/dev/shm")
_READ_ONLY = (
    "/dev/shm is mounted read-only, but the broker creates its semaphores there: remount it with rw, or give the "
    "container a tmpfs there (--tmpfs /dev/shm)"
)
_MISSING = (
    "there is no /dev/shm, in which the broker creates its semaphores: mount a tmpfs "
    "(mount -t tmpfs tmpfs /dev/shm)"
)


def why_not(error: OSError) -> str:
    """What is wrong with /dev/shm if `error` occurred when a file was created there; empty if only that file is the
    problem."""
    if not FOLDER.is_dir():
        return _MISSING
    if error.errno == errno.EROFS or (error.errno is None and _is_read_only()):
        return _READ_ONLY
    return ""


def _is_read_only() -> bool:
    return bool(os.statvfs(FOLDER).f_flag & os.ST_RDONLY)
