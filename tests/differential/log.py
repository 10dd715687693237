"""The broker's log, and what must not be in it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tests.stress.verdicts import Fault

_MUST_NOT_BE = ("Traceback (most recent call last)", " CRITICAL ", "its channel is closed")
_SHOWN = 3000
_MISMATCH = re.compile(
    "holds an answer to use|had been handed back|was completed twice|the connection is closed"
)


def is_mismatch(line: str) -> bool:
    """Whether a line reports an answer to another request, or an answer that came twice."""
    return _MISMATCH.search(line) is not None


@contextlib.contextmanager
def redirected(path: Path) -> Iterator[None]:
    """Processes started in the block write their stderr to this file."""
    before = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def check_log(path: Path) -> None:
    """Raises Fault for a traceback, or for a line about an answer to another request."""
    text = path.read_text(errors="replace")
    for line in text.splitlines():
        if any(sign in line for sign in _MUST_NOT_BE) or is_mismatch(line):
            at = text.index(line)
            raise Fault(f"the broker's log says:\n{text[max(0, at - 200) : at + _SHOWN]}")
