"""Checks shared memory: /dev/shm, which holds the semaphores and must be the broker's, and the memory for segments."""

from __future__ import annotations

import os

from broker.config.settings import Settings
from broker.doctor.finding import Finding, ok, problem, warning
from broker.doctor.target import SHM, Target, mib
from broker.host.memory_left import left_bytes
from broker.host.processes import PROC
from worker_client.wire.address import name_prefix

_PAGE = 4096
_FEW_WORKERS = 100
_ENLARGE = (
    "mount -o remount,size=64M /dev/shm (docker run --shm-size=64m; Kubernetes: an emptyDir of medium Memory)"
)


def worker_bytes() -> int:
    """The bytes of /dev/shm that a worker takes when it attaches with the default settings: each semaphore is a file of
    one page."""
    return (Settings(models=()).slots + 2) * _PAGE


def room(size: int, free: int) -> Finding:
    """Judge the room in /dev/shm, in bytes. Segments are not in /dev/shm."""
    check = "/dev/shm"
    workers = free // worker_bytes()
    found = f"{mib(free)} of {mib(size)} free: the semaphores of {workers:,} more workers"
    if workers < 1:
        return problem(check, found, f"{_ENLARGE}, or free some: ls -l /dev/shm")
    if workers < _FEW_WORKERS:
        return warning(check, found, _ENLARGE)
    return ok(check, found)


def memory(left: int | None, budget: int, used: int) -> Finding:
    """Judge the memory for segments, in bytes. `left`: free memory of the machine or container; `budget`:
    max_total_bytes; `used`: the broker's part of it."""
    check = "memory"
    if left is None:
        return ok(check, "the free memory cannot be read here")
    found = f"{mib(left)} left; the broker's segments may take {mib(budget)} and now take {mib(used)}"
    if left + used < budget:
        return warning(
            check,
            f"{found}: there is not enough for all of it",
            f"give the container more memory, or --max-total-bytes {max(left + used, 1) // 10 * 9}",
        )
    return ok(check, found)


def inodes(total: int, free: int) -> Finding:
    """Judge the free inodes: each semaphore is a file. `total` 0 means that the file system does not count them."""
    check = "semaphores"
    if total and free < 1000:
        return warning(
            check,
            f"/dev/shm has room for {free:,} more names; a worker takes {Settings(models=()).slots + 2}",
            "mount -o remount,nr_inodes=100k /dev/shm",
        )
    return ok(
        check,
        f"/dev/shm has room for {free:,} more names"
        if total
        else "/dev/shm does not limit the number of names",
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
    """Check that workers can open the doorbell by its name: they must have the same /dev/shm, and the name must
    exist."""
    check = "doorbell"
    if target.status is None:
        return ok(check, "nothing to check: no broker answers")
    stem = f"sem.{name_prefix(target.path).lstrip('/')}"
    if not any(path.name.startswith(stem) for path in SHM.iterdir()):
        return problem(
            check,
            "the broker answers, but its doorbell is not in this /dev/shm: no new worker can attach",
            "share /dev/shm between their containers (docs/operations.md); if they do, a program has "
            "removed it "
            "(RemoveIPC=yes, a clean-up script): restart the broker",
        )
    apart = [pid for pid in target.worker_pids if _device(pid) != _device("self")]
    if apart:
        return warning(
            check,
            f"workers {', '.join(map(str, apart))} see another /dev/shm than this process",
            "give all of them the same /dev/shm",
        )
    return ok(check, "broker and workers have the same /dev/shm")


def _device(pid: int | str) -> int:
    try:
        return (PROC / str(pid) / "root/dev/shm").stat().st_dev
    except OSError:  # another user's process: unknown
        return SHM.stat().st_dev
