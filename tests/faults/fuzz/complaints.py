"""What the broker logs as its own failure, caught where it is logged."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class Complaints(logging.Filter):
    """Collects errors; nothing goes on to a handler, which might keep alive what has failed."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            why = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
            self.texts.append(f"{record.getMessage()}\n{why}")
        return False

    def check(self) -> None:
        found = self.texts[:]
        self.texts.clear()
        assert not found, f"the broker complains: {found[0]}"


@contextmanager
def complaints(*names: str) -> Iterator[Complaints]:
    """Of the loggers `onesession.NAME`."""
    made = Complaints()
    logs = [logging.getLogger(f"onesession.{name}") for name in names]
    for log in logs:
        log.addFilter(made)
    try:
        yield made
    finally:
        for log in logs:
            log.removeFilter(made)
