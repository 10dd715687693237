"""The machine and the commit of the figures, and whether other programs used the machine meanwhile."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import psutil

from broker.host import describe as machine
from broker.host.usage import busy_s

ROOT = Path(__file__).parents[1]
_RESULTS = "benchmarks/published"
"""Runs rewrite these files; changes there do not affect what is measured."""
_PR_SET_CHILD_SUBREAPER = 36


def describe() -> dict[str, Any]:
    return {
        **machine.describe(),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", ".", f":!{_RESULTS}")),
    }


class OtherLoad:
    """CPU time that processes which are not ours took, from the making of this object to `share()`.

    Call `share` when all our children have ended and been waited for: only then is their CPU time known as ours. What
    their children took counts if these were waited for, too; those that were not become ours (prctl(2)).
    """

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._there_before = set(psutil.Process().children())
        self._start = monotonic()
        self._busy = busy_s()
        self._own = own_s()

    def share(self) -> float:
        """The CPU time of others as a share of all cores."""
        for orphan in set(psutil.Process().children()) - self._there_before:
            with suppress(ChildProcessError):
                os.waitpid(orphan.pid, os.WNOHANG)
        others = (busy_s() - self._busy) - (own_s() - self._own)
        return max(0.0, others / ((monotonic() - self._start) * (os.cpu_count() or 1)))


def own_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
