"""Who used the processors during a load: the server, and programs that have nothing to do with the demo.

Requests a second depend on what else runs on the machine; the server's own CPU time for a request hardly does.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import psutil

BUSY_SHARE = 0.1
"""From this share of the processors on, other programs are worth a warning."""


class Use:
    """Filled in when `watched` ends. `server_seconds` is CPU time, `others_share` of all processors, 0 to 1."""

    server_seconds = 0.0
    others_share = 0.0


@contextmanager
def watched(server_pid: int) -> Iterator[Use]:
    """Watch the server's tree, the clients (children that end meanwhile) and everything else."""
    use = Use()
    began, server, ours, all_busy = monotonic(), _tree(server_pid), _ours(), _busy()
    yield use
    use.server_seconds = _tree(server_pid) - server
    others = _busy() - all_busy - use.server_seconds - (_ours() - ours)
    available = (monotonic() - began) * (os.cpu_count() or 1)
    use.others_share = min(1.0, max(0.0, others / available))


def _tree(root: int) -> float:
    processes = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def _ours() -> float:
    """Of this process, and of the children that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _busy() -> float:
    """Of the whole machine, since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)
