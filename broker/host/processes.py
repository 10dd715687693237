"""Reads /proc for processes, our own or others; the result is empty if one has ended or may not be inspected."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

PROC = Path("/proc")
_LONGEST_TITLE = 80
_PF_EXITING = 0x4  # one of the flags in /proc/PID/stat


def exists(pid: int) -> bool:
    """Whether the process exists, as far as it is visible from here."""
    return (PROC / str(pid)).is_dir()


def is_ending(pid: int) -> bool:
    """Whether it is ending or has ended. A process closes its files slightly before its children get another parent."""
    fields = (read(pid, "stat") or "").rpartition(")")[2].split()
    return not fields or bool(int(fields[6]) & _PF_EXITING)


def read(pid: int | str, file: str) -> str | None:
    """The text of a file of a process in /proc."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / file).read_text(errors="replace")
    return None


def link(pid: int | str, file: str) -> str | None:
    """The target of a link of a process in /proc."""
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


def title_of(pid: int) -> str:
    """What a process calls itself, such as `gunicorn: worker [app]`; of a command only the names of its program and of
    Python's script or module, since its other words may be secrets. Empty if nothing can be read.

    Reading it may take as long as the process holds its memory's lock, so threads that others wait for must not.
    """
    words = (read(pid, "cmdline") or "").rstrip("\0 ").split("\0")
    if len(words) == 1:
        return words[0][:_LONGEST_TITLE]
    program = os.path.basename(words[0])
    script = words[2] if words[1] == "-m" and len(words) > 2 else words[1]
    if not program.startswith("python") or script.startswith("-"):
        return program[:_LONGEST_TITLE]
    return f"{program} {os.path.basename(script)}"[:_LONGEST_TITLE]


def pid_namespace() -> str:
    """In which this process's ids mean what they mean; empty if it is not known."""
    return link("self", "ns/pid") or ""


def titles_of(pids: Iterable[int], namespace: str) -> dict[int, str]:
    """Of processes whose ids are of this namespace: none, if that is another than ours."""
    if not namespace or namespace != pid_namespace():
        return {}
    return {pid: title_of(pid) for pid in pids}
