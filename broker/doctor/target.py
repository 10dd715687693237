"""Whom the checks look at: an address, the broker that answers there, its workers, and their entries in /proc."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.config.settings import Settings

PROC = Path("/proc")
SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Patient:
    """`status` and `models` are what the broker said, None and empty if none answers."""

    path: Path
    status: dict[str, Any] | None = None
    models: dict[str, Any] = field(default_factory=dict)

    @property
    def broker_pid(self) -> int | None:
        """None if no broker answers, or its process is not to be seen from here."""
        pid = self.status["pid"] if self.status else None
        return pid if pid and process_exists(pid) else None

    @property
    def worker_pids(self) -> list[int]:
        """Those that can be seen from here, without the broker itself, which may be its own worker."""
        workers = self.status["workers"] if self.status else []
        pids = {worker["pid"] for worker in workers} - {self.status["pid"] if self.status else 0, 0}
        return sorted(pid for pid in pids if process_exists(pid))

    @property
    def max_total_bytes(self) -> int:
        return int(self.status["max_total_bytes"]) if self.status else Settings(models=()).max_total_bytes

    @property
    def used_bytes(self) -> int:
        return int(self.status["shared_memory_bytes"]) if self.status else 0


def process_exists(pid: int) -> bool:
    return (PROC / str(pid)).is_dir()


def read(pid: int | str, file: str) -> str | None:
    """A file of a process in /proc; None if it has ended, or is none of ours."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / file).read_text(errors="replace")
    return None


def link(pid: int | str, file: str) -> str | None:
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


def mib(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):,.0f} MiB"
