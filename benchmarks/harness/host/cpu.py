"""Context switches of other processes, and waiting until they use no CPU time.

An arm that polls continues to poll for a while after its last call. The next arm's window must not begin before that
has ended: it would measure two programs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from broker.host.usage import cpu_ns_or_0

LOOK_S = 0.01
_QUIET = 0.03  # cores that all of them together may use: housekeeping, not polling


class NotQuiet(Exception):
    """A process of this run kept a core busy for longer than any should."""


def context_switches(pid: int) -> int:
    """The context switches of all its living threads, voluntary or not."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def descendants() -> list[int]:
    """Process ids of all below this process."""
    return [process.pid for process in psutil.Process(os.getpid()).children(recursive=True)]


def wait_until_quiet(pids: Iterable[int], timeout_s: float = 20.0, look_s: float = LOOK_S) -> None:
    """Return when these processes have used no CPU for `look_s`. Under a quota, that must be longer than the kernel may
    keep them stopped. Raises NotQuiet."""
    pids = list(pids)
    limit = time.monotonic() + timeout_s
    before = {pid: cpu_ns_or_0(pid) for pid in pids}
    while True:
        time.sleep(look_s)
        now = {pid: cpu_ns_or_0(pid) for pid in pids}
        used = {pid: now[pid] - before[pid] for pid in pids}
        if sum(used.values()) < _QUIET * look_s * 1e9:
            return
        if time.monotonic() > limit:
            busy = ", ".join(f"{pid} ({' '.join(_command(pid))})" for pid, ns in used.items() if ns > 0)
            raise NotQuiet(f"still busy after {timeout_s:g} s without a call: {busy}")
        before = now


def _command(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()[:4]
    except psutil.NoSuchProcess:
        return ["ended"]
