"""What /proc says of processes, ours or others': nothing, where one has ended or is not ours to look at."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
_PF_EXITING = 0x4  # of the flags in /proc/PID/stat


def exists(pid: int) -> bool:
    """As far as can be seen from here."""
    return (PROC / str(pid)).is_dir()


def is_ending(pid: int) -> bool:
    """Or has ended. A process closes its files a little before its children are given to another."""
    fields = (read(pid, "stat") or "").rpartition(")")[2].split()
    return not fields or bool(int(fields[6]) & _PF_EXITING)


def read(pid: int | str, file: str) -> str | None:
    """A file of a process in /proc."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / file).read_text(errors="replace")
    return None


def link(pid: int | str, file: str) -> str | None:
    """What a link of a process in /proc leads to."""
    with contextlib.suppress(OSError):
        return os.readlink(PROC / str(pid) / file)
    return None


def name_of(pid: int) -> str:
    return (read(pid, "comm") or "?").strip()


def ancestors(pid: int) -> Iterator[int]:
    """The parents of a process, the nearest first, without init."""
    while (parent := _parent(pid)) > 1:
        yield parent
        pid = parent


def _parent(pid: int) -> int:
    found = re.search(r"^PPid:\s+(\d+)$", read(pid, "status") or "", re.MULTILINE)
    return int(found[1]) if found else 0
