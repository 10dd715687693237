"""Shared memory: /dev/shm, where the semaphores are, and whether it is the broker's; the memory that segments take."""

from __future__ import annotations

import os

from broker.config.settings import Settings
from broker.doctor.finding import Finding, ok, problem, warning
from broker.doctor.target import SHM, Target, mib
from broker.host.memory import left_bytes
from broker.host.processes import PROC
from worker_client.wire.address import name_prefix

_PAGE = 4096
_FEW_WORKERS = 100
_ENLARGE = (
    "mount -o remount,size=64M /dev/shm (docker run --shm-size=64m; Kubernetes: an emptyDir of medium Memory)"
)


def worker_bytes() -> int:
    """What a worker takes of /dev/shm when it attaches, with the default settings: its semaphores, each of which is a
    file of a page."""
    return (Settings(models=()).slots + 2) * _PAGE


def room(size: int, free: int) -> Finding:
    """All in bytes. Segments are not in /dev/shm."""
    check = "/dev/shm"
    workers = free // worker_bytes()
    found = f"{mib(free)} of {mib(size)} free: the semaphores of {workers:,} more workers"
    if workers < 1:
        return problem(check, found, f"{_ENLARGE}, or free some: ls -l /dev/shm")
    if workers < _FEW_WORKERS:
        return warning(check, found, _ENLARGE)
    return ok(check, found)


def memory(left: int | None, budget: int, used: int) -> Finding:
    """`left` of the machine's or the container's memory, `budget` is max_total_bytes, `used` what the broker has of
    it. All in bytes."""
    check = "memory"
    if left is None:
        return ok(check, "how much is left cannot be read here")
    found = f"{mib(left)} left; the broker's segments may take {mib(budget)}, take {mib(used)}"
    if left + used < budget:
        return warning(
            check,
            f"{found}: there is not enough for all of it",
            f"give the container more memory, or --max-total-bytes {max(left + used, 1) // 10 * 9}",
        )
    return ok(check, found)


def inodes(total: int, free: int) -> Finding:
    """Each semaphore is a file; 0 in all means that they are not counted."""
    check = "semaphores"
    if total and free < 1000:
        return warning(
            check,
            f"/dev/shm has room for {free:,} more names; a worker takes {Settings(models=()).slots + 2}",
            "mount -o remount,nr_inodes=100k /dev/shm",
        )
    return ok(
        check, f"/dev/shm has room for {free:,} more names" if total else "/dev/shm does not count its names"
    )


def check_room(_target: Target) -> Finding:
    found = os.statvfs(SHM)
    if not os.access(SHM, os.W_OK | os.X_OK):
        return problem("/dev/shm", f"uid {os.geteuid()} may not write there", "chmod 1777 /dev/shm")
    return room(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def check_memory(target: Target) -> Finding:
    return memory(left_bytes(), target.max_total_bytes, target.used_bytes)


def check_inodes(_target: Target) -> Finding:
    found = os.statvfs(SHM)
    return inodes(found.f_files, found.f_favail)


def check_shared(target: Target) -> Finding:
    """Workers must find the doorbell by its name: in the same /dev/shm, and nobody may have removed it."""
    check = "doorbell"
    if target.status is None:
        return ok(check, "nothing to look for: no broker answers")
    stem = f"sem.{name_prefix(target.path).lstrip('/')}"
    if not any(path.name.startswith(stem) for path in SHM.iterdir()):
        return problem(
            check,
            "the broker answers, but its doorbell is not in this /dev/shm: no new worker can attach",
            "share /dev/shm between their containers (docs/operations.md); if they do, something has removed it "
            "(RemoveIPC=yes, a clean-up script): restart the broker",
        )
    apart = [pid for pid in target.worker_pids if _device(pid) != _device("self")]
    if apart:
        return warning(
            check,
            f"workers {', '.join(map(str, apart))} see another /dev/shm than this process",
            "give all of them the same one",
        )
    return ok(check, "broker and workers have one /dev/shm")


def _device(pid: int | str) -> int:
    try:
        return (PROC / str(pid) / "root/dev/shm").stat().st_dev
    except OSError:  # another user's process: it cannot be told
        return SHM.stat().st_dev
