"""Whether somebody holds flock(2) on a file, by the kernel's list of locks: who tries would hold it for a moment."""

from __future__ import annotations

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
