"""The figures of one way of serving."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.demo.load import LoadResult
from benchmarks.demo.processors import Use
from benchmarks.demo.program import Message
from benchmarks.demo.server import DemoServer, WorkerStart
from benchmarks.memory import ProcessMemory

BROKER = "broker (TensorFlow)"
PARENT = "onesession run, its parent"
ARBITER = "gunicorn arbiter"
WORKER = "gunicorn worker"


@dataclass(frozen=True)
class Counters:
    """The broker's counters of the demo's only signature."""

    pid: int
    requests: int
    batches: Counter[int]
    """{rows: runs}"""

    @classmethod
    def of(cls, status: Message) -> Counters:
        """From the output of `onesession status --json`, in which the numbers of rows are strings."""
        found = status["models"]["digits"]["serving_default"]
        batches = Counter({int(rows): runs for rows, runs in found["batch_rows"].items()})
        return cls(status["pid"], found["requests"], batches)

    def since(self, before: Counters) -> Counters:
        return Counters(self.pid, self.requests - before.requests, self.batches - before.batches)


@dataclass(frozen=True)
class ServerFigures:
    """One server's figures. The bare app has none of a load, and a server without a broker none of a broker."""

    title: str
    root_pid: int
    arbiter_pid: int
    starts: Sequence[WorkerStart]
    processes: Sequence[ProcessMemory]
    load: LoadResult | None
    use: Use | None
    counters: Counters | None

    @classmethod
    def of(
        cls,
        title: str,
        server: DemoServer,
        starts: Sequence[WorkerStart],
        load: LoadResult | None = None,
        use: Use | None = None,
        counters: Counters | None = None,
    ) -> ServerFigures:
        """Takes the memory of the running server as well."""
        root, arbiter = server.program.pid, server.arbiter_pid
        return cls(title, root, arbiter, starts, server.memory(), load, use, counters)

    @property
    def pss_bytes(self) -> int:
        return sum(process.pss_bytes for process in self.processes)

    @property
    def workers(self) -> list[ProcessMemory]:
        return sorted((p for p in self.processes if p.parent == self.arbiter_pid), key=lambda p: p.pid)

    @property
    def worker_pss_bytes(self) -> float:
        """The PSS of the mean worker."""
        return statistics.mean(process.pss_bytes for process in self.workers)

    @property
    def median_start(self) -> float:
        """Seconds from a worker's fork to its first answer."""
        return statistics.median(start.seconds for start in self.starts)

    @property
    def slowest_start(self) -> float:
        return max(start.seconds for start in self.starts)

    @property
    def first_answer(self) -> float:
        """Seconds from the command that starts the server to its first answer."""
        return min(start.since_command for start in self.starts)

    @property
    def cpu_us(self) -> float:
        """CPU time of the whole server for one answer."""
        assert self.load is not None
        assert self.use is not None
        return self.use.server_seconds * 1e6 / len(self.load.images)

    def by_role(self) -> dict[str, int]:
        """PSS of every process, by its role."""
        names = {worker.pid: f"{WORKER} {number}" for number, worker in enumerate(self.workers, start=1)}
        if self.counters is not None:
            names |= {self.counters.pid: BROKER, self.root_pid: PARENT}
        names[self.arbiter_pid] = ARBITER
        return {names.get(p.pid, f"pid {p.pid}"): p.pss_bytes for p in self.processes}
