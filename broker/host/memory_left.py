"""How much memory is left before the kernel kills a process because memory is short.

Segments are files in memory without a size limit of their own: the machine's memory and the limits of our control
groups bound them. Swap does not count: a broker that is swapped out cannot keep deadlines.
"""

from __future__ import annotations

from pathlib import Path

from broker.host.cgroup import Group, groups
from broker.host.kernel_files import ROOT, amounts, lines, number

_NO_LIMIT = 1 << 60  # version 1 expresses "no limit" as the largest number of pages
_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    2: ("memory.max", "memory.current"),
}
_RECLAIMABLE = {
    1: ("total_inactive_file",),  # version 1 does not report the kernel's reclaimable memory
    2: ("inactive_file", "slab_reclaimable"),
}
"""Names in memory.stat, of amounts that include the groups below."""


def left_bytes(root: Path = ROOT) -> int | None:
    """Bytes left on the machine, or in the tightest group if that leaves less; None if neither can be read.

    Memory that the kernel can reclaim immediately counts as free: cached files, and its own caches.
    """
    found = [_of_machine(root), *map(_of_group, groups("memory", root=root))]
    return min((left for left in found if left is not None), default=None)


def kills(root: Path = ROOT) -> int:
    """How many processes of our control group the kernel has killed so far because memory was short."""
    for group in groups("memory", root=root):
        events = amounts(group.folder / ("memory.events" if group.version == 2 else "memory.oom_control"))
        if "oom_kill" in events:
            return events["oom_kill"]
    return 0


def _of_machine(root: Path) -> int | None:
    for line in lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _of_group(group: Group) -> int | None:
    """The bytes that the group's limit leaves; None without a limit."""
    limit, used = (number(group.folder / name) for name in _FILES[group.version])
    if limit is None or used is None or limit >= _NO_LIMIT:
        return None
    stat = amounts(group.folder / "memory.stat")
    return max(0, limit - used + sum(stat.get(name, 0) for name in _RECLAIMABLE[group.version]))
