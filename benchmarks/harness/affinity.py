"""Two processes on two cores, where the comparison is about waking one core from another.

Nothing is pinned but where an arm says so. Two processes that block in turns stay where they were first put: on one
core (a switch, 5 us here) or on two (a wake-up, 40 to 60 us), as chance has it, and so do other processes' loads.
"""

from __future__ import annotations

import os
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
CALLER, OTHER = CORES[0], CORES[-1]
TWO_CORES = CALLER != OTHER


def pin(core: int, pid: int | None = None) -> None:
    """Keep all threads of a process (default: this one) on `core`; threads that they start inherit it."""
    for thread in Path(f"/proc/{pid or 'self'}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
