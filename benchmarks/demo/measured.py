"""What the demo has found out about one way of serving."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.demo.load import Load
from benchmarks.demo.program import Message
from benchmarks.demo.server import Server, WorkerStart
from benchmarks.memory import ProcessMemory

BROKER = "broker: TensorFlow, the session"
PARENT = "broker run: parent of both"
ARBITER = "gunicorn arbiter"
WORKER = "gunicorn worker"


@dataclass(frozen=True)
class Counters:
    """What the broker has counted for the demo's one signature. `batches` is {rows: runs}."""

    pid: int
    requests: int
    batches: dict[int, int]
    run_us: float

    @classmethod
    def of(cls, status: Message) -> Counters:
        """From what `broker status --json` prints, where JSON has made strings of the rows."""
        found = status["models"]["digits"]["serving_default"]
        batches = sorted((int(rows), runs) for rows, runs in found["batch_rows"].items())
        return cls(status["pid"], found["requests"], dict(batches), found["run_us"])


@dataclass(frozen=True)
class Served:
    """One server's figures, after its load. The bare app has no load, only a broker has counters."""

    title: str
    root_pid: int
    arbiter_pid: int
    starts: Sequence[WorkerStart]
    processes: Sequence[ProcessMemory]
    load: Load | None
    counters: Counters | None

    @classmethod
    def of(
        cls,
        title: str,
        server: Server,
        starts: Sequence[WorkerStart],
        load: Load | None = None,
        counters: Counters | None = None,
    ) -> Served:
        """Takes the memory of the running server as well."""
        return cls(title, server.program.pid, server.arbiter_pid, starts, server.memory(), load, counters)

    @property
    def pss_bytes(self) -> int:
        return sum(process.pss_bytes for process in self.processes)

    @property
    def workers(self) -> list[ProcessMemory]:
        return sorted((p for p in self.processes if p.parent == self.arbiter_pid), key=lambda p: p.pid)

    @property
    def worker_pss_bytes(self) -> float:
        """Of the mean worker."""
        return statistics.mean(process.pss_bytes for process in self.workers)

    @property
    def median_start(self) -> float:
        """Seconds from a worker's fork to its first answer."""
        return statistics.median(start.seconds for start in self.starts)

    @property
    def slowest_start(self) -> float:
        return max(start.seconds for start in self.starts)

    def by_role(self) -> dict[str, int]:
        """PSS of every process, under what it is."""
        names = {worker.pid: f"{WORKER} {number}" for number, worker in enumerate(self.workers, start=1)}
        if self.counters is not None:
            names |= {self.counters.pid: BROKER, self.root_pid: PARENT}
        names[self.arbiter_pid] = ARBITER
        return {names.get(p.pid, f"pid {p.pid}"): p.pss_bytes for p in self.processes}
