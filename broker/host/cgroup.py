"""The control groups of a process, with which containers, systemd units and batch systems set limits.

    /proc/PID/cgroup       memory: /docker/4f1        the process's group in each hierarchy
    /proc/self/mountinfo   /docker  on  /sys/fs/cgroup/memory        which part of a hierarchy can be read, and where
                           -> /sys/fs/cgroup/memory/4f1, /sys/fs/cgroup/memory

Version 1 has several hierarchies, each for a few controllers; version 2 has one for all of them. A hybrid machine has
both, and each controller belongs to one hierarchy only (cgroups(7), proc(5)).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broker.host.kernel_files import ROOT, lines

_OUTSIDE = ".."  # start of the path of a group that is not below the root of our namespace


@dataclass(frozen=True, slots=True)
class Group:
    """A control group with its files in `folder`, whose names and contents depend on the version, 1 or 2."""

    folder: Path
    version: int


@dataclass(frozen=True, slots=True)
class _Mount:
    """A mount: the part of a hierarchy below the group `top` is readable below the folder `point`."""

    top: Path
    point: Path
    version: int
    options: frozenset[str]


def groups(controller: str, pid: int | None = None, root: Path = ROOT) -> list[Group]:
    """The group of a process (default: this one) and its ancestors, the nearest first, as far as they are readable.

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
    # In a container, the top of the mount may be its own group while the path is the host's.
    seen = mounts[:1] if pid is None and _OUTSIDE not in path.parts else []
    return [Group(mount.point, version) for mount in seen]


def _place(controller: str, pid: int | None, root: Path) -> tuple[int, Path]:
    """The version of the controller's hierarchy, and the path of the process's group in it. Version 0: there is
    none."""
    found = 0, Path("/")
    for line in lines(root / "proc" / str(pid or "self") / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return 1, Path(path)
        if number == "0":
            found = 2, Path(path)
    return found


def _mounts(root: Path) -> dict[Path, _Mount]:
    """The mounts by folder: a mount hides an earlier one at the same folder."""
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
