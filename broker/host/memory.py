"""How much memory may still be taken before the kernel ends a process for want of it.

Segments are files in memory without a size limit of their own: what bounds them is the machine's memory, and the limits
of the control groups that we are in, as containers and units of systemd have them (versions 1 and 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60  # version 1 says so with the largest number of pages


def left_bytes(proc: Path = _PROC, groups: Path = _GROUPS) -> int | None:
    """None where neither is to be read. Memory that the kernel can reclaim at once counts as free."""
    found = [left for left in (_of_machine(proc), *_of_groups(proc, groups)) if left is not None]
    return min(found, default=None)


def kills(proc: Path = _PROC, groups: Path = _GROUPS) -> int:
    """How many processes of our control group the kernel has ended for want of memory so far."""
    for line in _lines(proc / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = groups, "memory.events"
        elif "memory" in controllers.split(","):
            root, name = groups / "memory", "memory.oom_control"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            for entry in _lines(folder / name):
                key, _, value = entry.partition(" ")
                if key == "oom_kill":
                    return int(value)
            if folder == root:
                break
    return 0


def _of_machine(proc: Path) -> int | None:
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _of_groups(proc: Path, groups: Path) -> Iterator[int | None]:
    """Each of our groups and those above; in a container the path may be the host's, and only the root is there."""
    for line in _lines(proc / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = groups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            root = groups / "memory"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            yield _of_group(folder, *names)


def _of_group(folder: Path, limit_name: str, used_name: str, reclaimable_name: str) -> int | None:
    limit, used = _number(folder / limit_name), _number(folder / used_name)
    if limit is None or used is None or limit >= _NO_LIMIT:
        return None
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name == reclaimable_name:
            used -= int(value)
    return max(0, limit - used)


def _number(file: Path) -> int | None:
    text = "".join(_lines(file))
    return int(text) if text.isdigit() else None  # "max" is none


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
