"""Checks descriptors and memory mappings: how many the broker may have, and how many it has."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from broker.counters.counted import counted
from broker.doctor.finding import Finding, ok, problem, warning
from broker.doctor.target import Target
from broker.host.processes import PROC, read

_FEW = 1024
_NEARLY, _ALMOST = 0.8, 0.95


def soft_limit(text: str) -> int | None:
    """The soft limit of open files in /proc/PID/limits; None for unlimited, or if the line is missing."""
    found = re.search(r"^Max open files\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else None


def descriptors(limit: int | None, used: int | None, workers: int) -> Finding:
    """Judge the limit of descriptors. `used` is None without a broker."""
    check = "ulimit -n"
    remedy = "LimitNOFILE=65536 in the unit, or ulimit -n 65536 before the start"
    found = f"{limit or 'unlimited'} descriptors"
    if used is not None:
        found += f", of which the broker has {used} for {counted(workers, 'worker')}"
    if limit is None:
        return ok(check, found)
    if used is not None and used >= _ALMOST * limit:
        return problem(check, f"{found}: further workers will be refused", remedy)
    if used is not None and used >= _NEARLY * limit:
        return warning(check, found, remedy)
    if limit < _FEW:
        return warning(
            check, f"{found}; every worker needs one or two, and a few more while it attaches", remedy
        )
    return ok(check, found)


def mappings(most: int, used: int, workers: int) -> Finding:
    check = "vm.max_map_count"
    found = f"the broker has {used:,} of {most:,} memory mappings, for {counted(workers, 'worker')}"
    if used < _NEARLY * most:
        return ok(check, found)
    judged = problem if used >= _ALMOST * most else warning
    return judged(
        check,
        f"{found}; each slot needs one to three",
        "sysctl -w vm.max_map_count=262144, or lower --max-slots",
    )


def check_descriptors(target: Target) -> Finding:
    pid = target.broker_pid
    used: int | None = None
    if pid is not None:
        with contextlib.suppress(OSError):  # the process belongs to another user
            used = len(os.listdir(PROC / str(pid) / "fd"))
    limit = soft_limit(read(pid or "self", "limits") or "")
    return descriptors(limit, used, len(target.worker_pids))


def check_mappings(target: Target) -> Finding:
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    pid = target.broker_pid
    if pid is None:
        return ok("vm.max_map_count", f"{most:,} memory mappings per process")
    return mappings(most, (read(pid, "maps") or "").count("\n"), len(target.worker_pids))
