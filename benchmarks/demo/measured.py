"""What the demo has found out about one way of serving."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks.demo.load import Load
from benchmarks.demo.program import Message
from benchmarks.demo.server import WorkerStart
from benchmarks.memory import ProcessMemory

BROKER = "broker: TensorFlow, the session"
PARENT = "broker run: parent of both"
ARBITER = "gunicorn arbiter"
WORKER = "gunicorn worker"


@dataclass(frozen=True)
class Trained:
    """The model, as TensorFlow itself sees it."""

    trained_on: int
    tested_on: int
    accuracy: float


@dataclass(frozen=True)
class Served:
    """One server's figures. `load` is None where it only shows its memory; `status` is the broker's, after the load."""

    title: str
    root_pid: int
    arbiter_pid: int
    starts: list[WorkerStart]
    processes: list[ProcessMemory]
    load: Load | None = None
    status: Message | None = None

    @property
    def pss_bytes(self) -> int:
        return sum(process.pss_bytes for process in self.processes)

    @property
    def worker_pss_bytes(self) -> float:
        """Of the mean worker."""
        return statistics.mean(process.pss_bytes for process in self.workers)

    @property
    def workers(self) -> list[ProcessMemory]:
        return sorted((p for p in self.processes if p.parent == self.arbiter_pid), key=lambda p: p.pid)

    @property
    def median_start(self) -> float:
        """Seconds from a worker's fork to its first answer."""
        return statistics.median(start.seconds for start in self.starts)

    def by_role(self) -> dict[str, ProcessMemory]:
        """Every process under what it is."""
        roles = {
            f"{WORKER} {number}": worker.pid for number, worker in enumerate(self.workers, start=1)
        }
        roles[ARBITER] = self.arbiter_pid
        if self.status is not None:
            roles[BROKER] = self.status["pid"]
            roles[PARENT] = self.root_pid
        names = {pid: role for role, pid in roles.items()}
        return {names.get(process.pid, f"pid {process.pid}"): process for process in self.processes}

    @property
    def batches(self) -> dict[int, int]:
        """{rows: runs} of the broker."""
        found = _counters(self)["batch_rows"]
        return {int(rows): runs for rows, runs in sorted(found.items(), key=lambda item: int(item[0]))}

    @property
    def requests(self) -> int:
        """How many the broker counted."""
        return int(_counters(self)["requests"])

    @property
    def run_us(self) -> float:
        """What one run of the model takes, as the broker measures it."""
        return float(_counters(self)["run_us"])


def _counters(served: Served) -> Message:
    assert served.status is not None
    counters: Message = served.status["models"]["digits"]["serving_default"]
    return counters
