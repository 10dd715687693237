"""The processors that this process may run on."""

from __future__ import annotations

import os


def usable(pid: int = 0) -> set[int]:
    """Their numbers. All there are where the question is refused, as by some seccomp filters."""
    try:
        return os.sched_getaffinity(pid)
    except OSError:
        return set(range(os.cpu_count() or 1))


def cores() -> int:
    """How many."""
    return len(usable())
