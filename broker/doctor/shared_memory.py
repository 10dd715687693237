"""/dev/shm: its room against the budgets, its inodes, and whether it is the broker's."""

from __future__ import annotations

import os

from broker.doctor.finding import Finding, ok, problem, warning
from broker.doctor.patient import PROC, SHM, Patient, mib
from broker.settings import Settings
from worker_client.wire.address import name_prefix

_DOCKER_BYTES = 64 << 20
_PAGE = 4096
_ENLARGE = (
    "mount -o remount,size=2G /dev/shm (docker run --shm-size=2g; Kubernetes: an emptyDir of medium Memory)"
)


def worker_bytes() -> int:
    """What a worker takes of /dev/shm when it attaches, with the default settings: its segment and its semaphores,
    each of which is a file of a page."""
    settings = Settings(models=())
    return -(-settings.first_segment_bytes // _PAGE) * _PAGE + (settings.slots + 2) * _PAGE


def room(size: int, free: int, budget: int, used: int) -> Finding:
    """`budget` is max_total_bytes, `used` what the broker has of it. All in bytes."""
    check = "/dev/shm"
    found = f"{mib(free)} of {mib(size)} free; the broker may use {mib(budget)}, uses {mib(used)}"
    if free < worker_bytes():
        return problem(
            check, f"{found}: not another worker fits", f"{_ENLARGE}, or free some: ls -l /dev/shm"
        )
    if size <= _DOCKER_BYTES:
        return warning(
            check, f"{found}: this is a container's default", f"{_ENLARGE}, or lower --max-total-bytes"
        )
    if free + used < budget:
        return warning(
            check,
            f"{found}: it will be full before the budget is",
            f"{_ENLARGE}, or --max-total-bytes {max(free + used, 1) // 10 * 9}",
        )
    return ok(check, found)


def inodes(total: int, free: int) -> Finding:
    """Each semaphore and segment is a file; 0 in all means that they are not counted."""
    check = "semaphores"
    if total and free < 1000:
        return warning(
            check,
            f"/dev/shm has room for {free:,} more names; a worker takes {Settings(models=()).slots + 3}",
            "mount -o remount,nr_inodes=100k /dev/shm",
        )
    return ok(
        check, f"/dev/shm has room for {free:,} more names" if total else "/dev/shm does not count its names"
    )


def check_room(patient: Patient) -> Finding:
    found = os.statvfs(SHM)
    if not os.access(SHM, os.W_OK | os.X_OK):
        return problem("/dev/shm", f"uid {os.geteuid()} may not write there", "chmod 1777 /dev/shm")
    return room(
        found.f_blocks * found.f_frsize,
        found.f_bavail * found.f_frsize,
        patient.max_total_bytes,
        patient.used_bytes,
    )


def check_inodes(_patient: Patient) -> Finding:
    found = os.statvfs(SHM)
    return inodes(found.f_files, found.f_favail)


def check_shared(patient: Patient) -> Finding:
    """Workers must find the doorbell by its name: in the same /dev/shm, and nobody may have removed it."""
    check = "doorbell"
    if patient.status is None:
        return ok(check, "nothing to look for: no broker answers")
    stem = f"sem.{name_prefix(patient.path).lstrip('/')}"
    if not any(path.name.startswith(stem) for path in SHM.iterdir()):
        return problem(
            check,
            "the broker answers, but its doorbell is not in this /dev/shm: no new worker can attach",
            "share /dev/shm between their containers (docs/operations.md); if they do, something has removed it "
            "(RemoveIPC=yes, a clean-up script): restart the broker",
        )
    apart = [pid for pid in patient.worker_pids if _device(pid) != _device("self")]
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
