"""A master and its workers, from the bench's side."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from broker.bench.arms import Named, WorkerArm
from broker.bench.load.linked_process import LinkedProcess
from broker.bench.load.processor_use import used_between
from broker.bench.load.samples import Window
from broker.bench.load.worker import Inputs, WindowOrder
from broker.bench.plan import Load
from broker.host import usage as processes
from worker_client.interpreter.surroundings import program, python_path
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import BrokerError

START_SECONDS = 180.0
"""Time for all workers to load their model."""
STUCK_SECONDS = 90.0
"""Time for answers after the end of a window: a call's own deadline is 60 s by default."""
_LEAD_NS = 10_000_000  # for the message to reach every worker
_ENTRY = "from broker.bench.load.master import main; sys.exit(main())"


class WorkerPool(LinkedProcess):
    """`workers` workers of one arm. `beside` are processes whose CPU time and memory are the arm's as well."""

    def __init__(self, arm: WorkerArm, workers: int, beside: Iterable[int] = ()) -> None:
        self.arm = arm
        self.workers = workers
        self.about: dict[str, Any] = {}
        self._beside = list(beside)
        super().__init__(
            lambda number: [sys.executable, "-c", program(_ENTRY), number],
            {"PYTHONPATH": python_path()},
            own_session=True,  # a Ctrl-C is for the bench, which then stops it
        )
        self._pids = [self.pid]

    def __enter__(self) -> WorkerPool:
        try:
            said = self.ask((self.arm, self.workers), START_SECONDS)
        except BaseException:
            self.stop()
            raise
        self.about = said[0]
        self._pids += [each["pid"] for each in said]
        return self

    def take(self, inputs: Inputs) -> list[Named]:
        """The first worker's answers, if they are wanted; all have checked theirs. Raises BrokerError."""
        answers: list[Named] = self.ask(inputs, START_SECONDS)[0]
        return answers

    def window(self, load: Load, warm_up_s: float, seconds: float, seed: list[int]) -> Window:
        """Raises BrokerError, WrongAnswer among them as such a message."""
        begin = monotonic_ns() + _LEAD_NS
        start = begin + int(warm_up_s * 1e9)
        end = start + int(seconds * 1e9)
        self.send(WindowOrder(load, begin, start, end, seed))
        use = used_between([*self._pids, *self._beside], start, end)
        samples = self.receive(STUCK_SECONDS)
        return Window.of([samples for each in samples for samples in each], seconds, use.cpu_s, use.others)

    def memory_bytes(self) -> int | None:
        """PSS of master, workers and the processes beside them. None where the kernel does not let us read it."""
        return processes.total_pss_bytes([*self._pids, *self._beside])

    def failed(self, why: str) -> BrokerError:
        """The error, with the last lines that its processes have written."""
        return BrokerError(
            "\n".join([f"the workers of the arm {self.arm.label!r}: their master {why}", *self.last_lines()])
        )
