"""What the figures were taken on, and whether something else used the machine meanwhile."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path
from time import monotonic
from typing import Any

from broker.bench import machine
from broker.bench.processes import busy_s

ROOT = Path(__file__).parents[1]


def describe() -> dict[str, Any]:
    return {
        **machine.describe(),
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


def _own_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
