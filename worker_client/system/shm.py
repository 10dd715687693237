"""/dev/shm, where the broker's semaphores and one of its locks are: what is wrong with it when it refuses a file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

FOLDER = Path("/dev/shm")
_READ_ONLY = (
    "/dev/shm is mounted read-only, and the broker's semaphores are there: remount it with rw, or give the container "
    "a tmpfs there (--tmpfs /dev/shm)"
)
_MISSING = (
    "there is no /dev/shm here, in which the broker's semaphores would be: mount a tmpfs "
    "(mount -t tmpfs tmpfs /dev/shm)"
)


def why_not(error: OSError) -> str:
    """What `error`, met when a file was made there, says of the folder itself; empty if it is about that file."""
    if not FOLDER.is_dir():
        return _MISSING
    if error.errno == errno.EROFS or (error.errno is None and _is_read_only()):
        return _READ_ONLY
    return ""


def _is_read_only() -> bool:
    return bool(os.statvfs(FOLDER).f_flag & os.ST_RDONLY)
