"""The target of the checks: an address, the broker that answers there, and its workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.config.settings import Settings
from broker.host import processes

SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Target:
    """The target. `status` and `models` are the broker's answers; None and empty if no broker answers."""

    path: Path
    status: dict[str, Any] | None = None
    models: dict[str, Any] = field(default_factory=dict)

    @property
    def broker_pid(self) -> int | None:
        """The broker's pid; None if no broker answers, or if its process is not visible from here."""
        pid = self.status["pid"] if self.status else None
        return pid if pid and processes.exists(pid) else None

    @property
    def worker_pids(self) -> list[int]:
        """The pids of visible workers, without the broker itself, which may be its own worker."""
        workers = self.status["workers"] if self.status else []
        pids = {worker["pid"] for worker in workers} - {self.status["pid"] if self.status else 0, 0}
        return sorted(pid for pid in pids if processes.exists(pid))

    @property
    def max_total_bytes(self) -> int:
        return int(self.status["max_total_bytes"]) if self.status else Settings(models=()).max_total_bytes

    @property
    def used_bytes(self) -> int:
        return int(self.status["shared_memory_bytes"]) if self.status else 0


def mib(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):,.0f} MiB"
