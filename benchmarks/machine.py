"""What the figures were taken on, and whether something else used the machine meanwhile."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]


def describe() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "tensorflow": _version("tensorflow", "tensorflow-cpu"),
        "numpy": _version("numpy"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
    }


class OtherLoad:
    """CPU time that processes which are not ours took, from the making of this object to `share()`.

    Call `share` when all our children have ended and been waited for: only then is their CPU time known as ours.
    """

    def __init__(self) -> None:
        self._start = monotonic()
        self._busy = busy_s()
        self._own = _own_s()

    def share(self) -> float:
        """As a share of all cores."""
        others = (busy_s() - self._busy) - (_own_s() - self._own)
        return max(0.0, others / ((monotonic() - self._start) * (os.cpu_count() or 1)))


def busy_s() -> float:
    """CPU time that the machine has spent on anything, in steps of 10 ms."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def _own_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(*names: str) -> str | None:
    """Of the first of these distributions that is installed, without importing it."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
