"""Faults put back into the product, to show that a run finds them.

Nothing in the product knows of this: the broker's process, and the one that supervises it, are started through
`launch` in place of their own entry points, which puts the fault in and then runs them.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable, Iterator

_ENTRY = (
    "import signal, sys; signal.pthread_sigmask(signal.SIG_SETMASK, {{mask}}); "
    "from tests.differential.faults import launch; sys.exit(launch({{module!r}}, {fault!r}))"
)
_MISMATCH = re.compile(r"mismatch|another (use|request|call)|not (the|this) .*(use|answer)", re.IGNORECASE)

BROKER: dict[str, Callable[[], None]] = {}
WORKER: dict[str, Callable[[], None]] = {}
ALL = frozenset()


def is_mismatch(line: str) -> bool:
    """A line of a log that tells of an answer which was somebody else's."""
    return _MISMATCH.search(line) is not None


@contextlib.contextmanager
def in_brokers(fault: str | None) -> Iterator[None]:
    """Brokers that are started in the block have it."""
    if fault is None or fault not in BROKER:
        yield
        return
    process = importlib.import_module("broker.process")
    before = process._ENTRY
    process._ENTRY = _ENTRY.format(fault=fault)
    try:
        yield
    finally:
        process._ENTRY = before


def launch(module: str, fault: str) -> int:
    """The body of a broker's process, or its supervisor's, whose broker gets the fault as well."""
    process = importlib.import_module("broker.process")
    process._ENTRY = _ENTRY.format(fault=fault)
    BROKER[fault]()
    return int(importlib.import_module(module).main())


def put_into_worker(fault: str | None) -> None:
    if fault in WORKER:
        WORKER[fault]()
