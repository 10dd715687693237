"""Files that are locked with flock(2): opening one, and checking whether it is locked. The check reads the kernel's
list of locks, because trying to lock the file would hold the lock for a moment."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_LOCKS = Path("/proc/locks")


def is_held(lock: Path) -> bool:
    """Whether any process holds the lock, as far as this process can see."""
    try:
        return is_listed(os.stat(lock), _LOCKS.read_text())
    except OSError:
        return False


def is_listed(found: os.stat_result, locks: str) -> bool:
    """Whether a file is in the kernel's list of locks. Its device counts as well, because each tmpfs numbers its inodes
    from 1."""
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    return f" {device}:{found.st_ino} " in locks


def open_lock(lock: Path) -> int:
    """Open the file; create it for this user alone if it does not exist. Raises OSError."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            # No O_CREAT for a file that exists: fs.protected_regular refuses that to root in a directory like /tmp.
            return os.open(lock, flags)
        except FileNotFoundError:
            pass
        with contextlib.suppress(FileExistsError):
            return os.open(lock, flags | os.O_CREAT | os.O_EXCL, 0o600)
