"""How much of the machine some processes used during a window, and how much everything else used."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import NamedTuple

from broker.host import usage
from worker_client.system.clock import monotonic, monotonic_ns


class ProcessorUse(NamedTuple):
    """`cpu_s` are CPU seconds of the processes; `others` are the cores that anything else kept busy."""

    seconds: float
    cpu_s: float
    others: float


def used_between(pids: Collection[int], start_ns: int, end_ns: int) -> ProcessorUse:
    """Between two moments to come, on the monotonic clock. Returns at the second one."""
    seen = []
    for moment in (start_ns, end_ns):
        time.sleep(max(0, moment - monotonic_ns()) / 1e9)
        seen.append((monotonic(), usage.cpu_s(pids), usage.busy_s()))
    took_s, cpu_s, busy_s = (after - before for before, after in zip(*seen))
    return ProcessorUse(took_s, cpu_s, max(0.0, busy_s - cpu_s) / took_s)
