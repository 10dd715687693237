"""Faults of the workers' processes."""

from __future__ import annotations

import importlib
from typing import Any

from tests.differential.faults.fault import Fault, Side, wrap


def _module(name: str) -> Any:
    return importlib.import_module(f"worker_client.{name}")


def foreign_channel() -> None:
    """No process notices that it is not the process that attached."""
    fork = _module("system.fork")
    fork.new_word = lambda: bytearray(b"\1")
    fork.here().word = bytearray(b"\1")


def dead_epoch() -> None:
    """If a channel closes while a call waits, whatever is in its slot counts as the answer."""
    lost = _module("attachment.retry_policy").BrokerLost

    def acquire(original: Any, channel: Any, slot: Any, deadline_ns: int) -> None:
        try:
            original(channel, slot, deadline_ns)
        except lost:
            slot.deadline_ns = 1 << 62

    wrap(_module("calls.channel").Channel, "_acquire", acquire)


FAULTS = (
    Fault("foreign_channel", Side.WORKER, foreign_channel, ("rows", "mixed"), ("predict", "forked_in_c")),
    Fault("dead_epoch", Side.WORKER, dead_epoch, ("rows", "heavy_rows"), ("predict",), deeds=True),
)
