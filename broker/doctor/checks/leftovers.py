"""Finds names in /dev/shm whose broker is dead. The next start at its address removes them; if an address is never used
again, they stay until `onesession doctor --sweep`.

A broker is alive if a process holds a lock on one of its names, which works across containers, or if its pid exists.
Age means nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from broker.doctor.finding import Finding, ok, warning
from broker.doctor.target import SHM, Target, mib
from broker.host import processes

_NAME = re.compile(r"(?:sem\.)?onesession\.([0-9a-f]{12})\.(\d+)\.[0-9a-f]+")

_LOCK = re.compile(r"onesession-[0-9a-f]{12}\.lock")

Brokers = dict[tuple[str, int], list[Path]]


def by_broker(paths: Iterable[Path]) -> Brokers:
    """The paths that are names of brokers, grouped by the digest of the address and the pid."""
    found: Brokers = defaultdict(list)
    for path in paths:
        if match := _NAME.fullmatch(path.name):
            found[match[1], int(match[2])].append(path)
    return found


def dead() -> list[Path]:
    """The names of all brokers that are certainly dead."""
    brokers = by_broker(SHM.iterdir())
    return sorted(
        path
        for (_digest, pid), paths in brokers.items()
        if not processes.exists(pid) and not any(map(_held, paths))
        for path in paths
    ) + sorted(path for path in SHM.iterdir() if _LOCK.fullmatch(path.name) and not _held(path))


def sweep() -> list[Path]:
    """Remove these names, and return those that were removed."""
    removed = []
    for path in dead():
        with contextlib.suppress(OSError):
            path.unlink()
            removed.append(path)
    return removed


def check(_target: Target) -> Finding:
    left = dead()
    if not left:
        return ok("left-over names", "no dead broker has left a name in /dev/shm")
    nbytes = 0
    for path in left:
        with contextlib.suppress(OSError):
            nbytes += path.stat().st_blocks * 512
    pids = ", ".join(str(pid) for _digest, pid in sorted(by_broker(left)))
    whose = f"of dead brokers (pid {pids})" if pids else "of dead brokers"
    return warning(
        "left-over names",
        f"{len(left)} of {mib(nbytes)} in /dev/shm, {whose}",
        "onesession doctor --sweep; a broker started at the same address removes its own",
    )


def _held(path: Path) -> bool:
    """Whether a live process holds a lock on it, or that cannot be checked."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
