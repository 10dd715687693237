"""What processes take of the machine: CPU time, and memory by PSS, where a page that n processes share counts 1/n.

PSS of a page that something outside the sum maps as well counts in part, so an arm's memory is taken while no other arm
with the same libraries runs (`bench/sweep.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of all threads of these processes so far, to the nanosecond; none for those that have ended."""
    return sum(_cpu_ns(pid) for pid in pids) / 1e9


def busy_s() -> float:
    """CPU seconds that the machine has spent on anything, in steps of 10 ms."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, _first_line("/proc/stat").split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def pss_bytes(pids: Iterable[int]) -> int | None:
    """PSS of all of them; None if one is not ours to look at, or has ended."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return None
        total += 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def _cpu_ns(pid: int) -> int:
    clock = (~pid << 3) | 2  # clock_getcpuclockid(3): CPUCLOCK_SCHED of the process
    try:
        return time.clock_gettime_ns(clock)
    except OSError:
        return 0


def _first_line(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.readline()
