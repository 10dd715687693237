"""Two processes on two cores, where the comparison is about waking one core from another.

Only arms that ask for it are pinned. Two processes that wait for each other in turn stay where the kernel first put
them, by chance on one core (a switch, 5 us here) or on two (a wake-up, 40 to 60 us).
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
