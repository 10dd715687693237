"""Files that are locked with flock(2): opening one, and whether somebody holds it. The latter by the kernel's list of
locks, as trying would hold it for a moment."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_LOCKS = Path("/proc/locks")


def is_held(lock: Path) -> bool:
    """By whomever, as far as that can be seen from here."""
    try:
        return is_listed(os.stat(lock), _LOCKS.read_text())
    except OSError:
        return False


def is_listed(found: os.stat_result, locks: str) -> bool:
    """With its device: each tmpfs counts its inodes from 1."""
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    return f" {device}:{found.st_ino} " in locks


def open_lock(lock: Path) -> int:
    """The file, made for this user alone if it is not there. Raises OSError."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            # Not O_CREAT for one that is there: fs.protected_regular refuses that to root, in a directory like /tmp.
            return os.open(lock, flags)
        except FileNotFoundError:
            pass
        with contextlib.suppress(FileExistsError):
            return os.open(lock, flags | os.O_CREAT | os.O_EXCL, 0o600)
