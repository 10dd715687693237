"""The control groups that a process is in: containers, units of systemd and batch systems set limits with them.

    /proc/PID/cgroup       memory: /docker/4f1        the process's group in each hierarchy
    /proc/self/mountinfo   /docker  on  /sys/fs/cgroup/memory        which part of a hierarchy can be read, and where
                           -> /sys/fs/cgroup/memory/4f1, /sys/fs/cgroup/memory

Version 1 has a hierarchy for every few controllers, version 2 one for all of them. A hybrid machine has both, and each
controller belongs to one hierarchy only (cgroups(7), proc(5)).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broker.host.kernel_files import ROOT, lines

_OUTSIDE = ".."  # begins the path of a group that is not below the root of our namespace


@dataclass(frozen=True, slots=True)
class Group:
    """Its files lie in `folder`. Their names and contents depend on the version, 1 or 2."""

    folder: Path
    version: int


@dataclass(frozen=True, slots=True)
class _Mount:
    """The part of a hierarchy below the group `top` can be read below the folder `point`."""

    top: Path
    point: Path
    version: int
    options: frozenset[str]


def groups(controller: str, pid: int | None = None, root: Path = ROOT) -> list[Group]:
    """The group of a process (default: this one) and those above it, the nearest first, as far as they can be read.

    A limit of any of them holds for the process.
    """
    version, path = _place(controller, pid, root)
    mounts = [each for each in _mounts(root).values() if each.version == version]
    if version == 1:
        mounts = [each for each in mounts if controller in each.options]
    for mount in mounts:
        if path.is_relative_to(mount.top) and _OUTSIDE not in path.parts:
            folder = mount.point / path.relative_to(mount.top)
            return [Group(each, version) for each in _up(folder, mount.point)]
    # A container that sees its own group as the top of what is mounted, while its path is the host's.
    seen = mounts[:1] if pid is None and _OUTSIDE not in path.parts else []
    return [Group(mount.point, version) for mount in seen]


def _place(controller: str, pid: int | None, root: Path) -> tuple[int, Path]:
    """The version of the controller's hierarchy, and the path of the process's group in it. Version 0: neither."""
    found = 0, Path("/")
    for line in lines(root / "proc" / str(pid or "self") / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return 1, Path(path)
        if number == "0":
            found = 2, Path(path)
    return found


def _mounts(root: Path) -> dict[Path, _Mount]:
    """By their folders: a mount hides an earlier one there."""
    found = {}
    for line in lines(root / "proc/self/mountinfo"):
        where, _, what = line.partition(" - ")
        if not what.startswith("cgroup"):
            continue
        _, _, _, top, point, *_ = where.split(" ")
        kind, _, options = what.split(" ", 2)
        folder, version = root / point.lstrip("/"), 2 if kind == "cgroup2" else 1
        found[folder] = _Mount(Path(top), folder, version, frozenset(options.split(",")))
    return found


def _up(folder: Path, top: Path) -> Iterator[Path]:
    yield folder
    while folder != top:
        folder = folder.parent
        yield folder
