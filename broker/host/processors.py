"""The processors: which ones this process may run on, how much of their time a control group allows, their model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from broker.host.cgroup import Group, groups
from broker.host.kernel_files import ROOT, lines, number


def usable(pid: int = 0) -> set[int]:
    """The numbers of the usable processors; all processors if the system call is refused, as by some seccomp
    filters."""
    try:
        return os.sched_getaffinity(pid)
    except OSError:
        return set(range(os.cpu_count() or 1))


def cores() -> int:
    """The number of usable processors."""
    return len(usable())


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit in processors' worth of time, such as 0.5 or 3, and the file that sets it."""

    processors: float
    file: Path


def tightest_quota(pid: int | None = None, root: Path = ROOT) -> Quota | None:
    """The smallest quota of the process's group and its ancestors; None without a readable one."""
    return tightest_of(groups("cpu", pid, root))


def tightest_of(some: Iterable[Group]) -> Quota | None:
    """The smallest quota of groups that were found before, because finding them takes a millisecond."""
    return min(_quotas(some), key=lambda quota: quota.processors, default=None)


def quota(pid: int | None = None, root: Path = ROOT) -> float | None:
    """Processors' worth of time that a process (default: this one) and the rest of its group may use together."""
    found = tightest_quota(pid, root)
    return None if found is None else found.processors


def info(root: Path = ROOT) -> dict[str, str]:
    """The fields of /proc/cpuinfo for the last processor."""
    pairs = (line.partition(":") for line in lines(root / "proc/cpuinfo"))
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip()}


def _quotas(some: Iterable[Group]) -> Iterator[Quota]:
    for group in some:
        file = group.folder / ("cpu.max" if group.version == 2 else "cpu.cfs_quota_us")
        time_us, period_us = _limit(group, file)
        if time_us is not None and time_us > 0 and period_us:
            yield Quota(time_us / period_us, file)


def _limit(group: Group, file: Path) -> tuple[int | None, int | None]:
    """Microseconds of CPU time in each period; "max", or -1 in version 1, is no limit."""
    if group.version == 1:
        time_us = number(file)
        return time_us, number(group.folder / "cpu.cfs_period_us") if (time_us or 0) > 0 else None
    words = " ".join(lines(file)).split()
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return None, None
    return int(words[0]), int(words[1])
