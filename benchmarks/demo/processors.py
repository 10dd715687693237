"""The use of the processors during a load: by the server, and by programs that have nothing to do with the demo.

Requests a second depend on what else runs on the machine; the server's own CPU time for a request hardly does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import psutil

from benchmarks.machine import own_s
from broker.host.usage import busy_s, cpu_s

BUSY_SHARE = 0.1
"""The demo warns if other programs use this share of the processors or more."""


class Use:
    """Filled in when `watched` ends. `server_seconds` is CPU time, `others_share` of all processors, 0 to 1."""

    server_seconds = 0.0
    others_share = 0.0


@contextmanager
def watched(server_pid: int) -> Iterator[Use]:
    """Watch the server's tree, the clients (children that end meanwhile) and everything else."""
    use = Use()
    began, server, ours, all_busy = monotonic(), _tree(server_pid), own_s(), busy_s()
    yield use
    use.server_seconds = _tree(server_pid) - server
    others = busy_s() - all_busy - use.server_seconds - (own_s() - ours)
    available = (monotonic() - began) * (os.cpu_count() or 1)
    use.others_share = min(1.0, max(0.0, others / available))


def _tree(root: int) -> float:
    processes = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    return cpu_s(process.pid for process in processes)
