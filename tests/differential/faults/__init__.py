"""Faults put back into the product, to show that a run finds them.

fault.py       what a fault is, and what its run must call to meet it
of_broker.py   in the broker's process; of_worker.py in the workers'

Nothing in the product knows of this: the broker's process, and the one that supervises it, are started through
`launch` in place of their own entry points, which puts the fault in and then runs them.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

from tests.differential.faults import of_broker, of_worker
from tests.differential.faults.fault import Fault, Side

__all__ = ["ALL", "Fault", "Side", "in_brokers", "launch", "put_into_worker"]

ALL: dict[str, Fault] = {fault.name: fault for fault in (*of_broker.FAULTS, *of_worker.FAULTS)}

_ENTRY = "from tests.differential.faults import launch; sys.exit(launch({{module!r}}, {fault!r}))"


def _is_of(side: Side, fault: str | None) -> bool:
    return fault is not None and ALL[fault].side is side


@contextlib.contextmanager
def in_brokers(fault: str | None) -> Iterator[None]:
    """Brokers that are started in the block have it."""
    if not _is_of(Side.BROKER, fault):
        yield
        return
    process = importlib.import_module("broker.process.broker_process")
    before = process._ENTRY
    process._ENTRY = _ENTRY.format(fault=fault)
    try:
        yield
    finally:
        process._ENTRY = before


def launch(module: str, fault: str) -> int:
    """The body of a broker's process, or of its supervisor's, whose broker gets the fault as well."""
    process = importlib.import_module("broker.process.broker_process")
    process._ENTRY = _ENTRY.format(fault=fault)
    ALL[fault].put()
    return int(importlib.import_module(module).main())


def put_into_worker(fault: str | None) -> None:
    if fault is not None and _is_of(Side.WORKER, fault):
        ALL[fault].put()
