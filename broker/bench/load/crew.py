"""A master and its workers, from the bench's side."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, BinaryIO

from broker.bench.arms import Arm, Named
from broker.bench.load.samples import Window
from broker.bench.load.worker import Inputs, Run
from broker.bench.plan import Load
from broker.host import usage as processes
from worker_client.system.clock import monotonic, monotonic_ns
from worker_client.system.surroundings import program, python_path
from worker_client.wire.errors import BrokerError

START_SECONDS = 180.0
"""For all workers to load their model."""
STUCK_SECONDS = 90.0
"""For answers past the end of a window: a call's own deadline is 60 s, unless it is told."""
STOP_SECONDS = 20.0
_LEAD_NS = 10_000_000  # for the word to reach every worker
_SAID_LINES = 12
_ENTRY = "from broker.bench.load.master import main; sys.exit(main())"


class Crew:
    """`workers` workers of one arm. `beside` are processes whose CPU time and memory are the arm's as well."""

    def __init__(self, arm: Arm, workers: int, beside: Iterable[int] = ()) -> None:
        self.arm = arm
        self.workers = workers
        self.about: dict[str, Any] = {}
        self._beside = list(beside)
        self._output: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program(_ENTRY), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                env={**os.environ, "PYTHONPATH": python_path()},
                start_new_session=True,  # a Ctrl-C is for the bench, which then stops it
            )
        self._connection = Connection(ours.detach())
        self._pids = [self._process.pid]

    def __enter__(self) -> Crew:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def take(self, inputs: Inputs) -> list[Named]:
        """The first worker's answers, if they are wanted; all have checked theirs. Raises BrokerError."""
        answers: list[Named] = self._ask(inputs, START_SECONDS)[0]
        return answers

    def window(self, load: Load, warm_up_s: float, seconds: float, seed: list[int]) -> Window:
        """Raises BrokerError, WrongAnswer among them as such a message."""
        begin = monotonic_ns() + _LEAD_NS
        start = begin + int(warm_up_s * 1e9)
        end = start + int(seconds * 1e9)
        self._send(Run(load, begin, start, end, seed))
        seen = [self._seen_at(start), self._seen_at(end)]
        tallies = self._receive(STUCK_SECONDS)
        took_s, cpu_s, busy_s = (after - before for before, after in zip(*seen))
        others = max(0.0, busy_s - cpu_s) / took_s
        return Window.of([tally for each in tallies for tally in each], seconds, cpu_s, others)

    def memory_bytes(self) -> int | None:
        """PSS of master, workers and what is beside them. None where it may not be looked at."""
        return processes.total_pss_bytes([*self._pids, *self._beside])

    def stop(self) -> None:
        """Idempotent."""
        self._connection.close()  # its workers end, and then it does
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # and the kernel its workers
            self._process.wait()
        self._output.close()

    def _start(self) -> None:
        self._send((self.arm, self.workers))
        said = self._receive(START_SECONDS)
        self.about = said[0]
        self._pids += [each["pid"] for each in said]

    def _seen_at(self, moment_ns: int) -> tuple[float, float, float]:
        """Time, CPU time of the arm and of the whole machine, in seconds, at a moment to come."""
        time.sleep(max(0, moment_ns - monotonic_ns()) / 1e9)
        return monotonic(), processes.cpu_s([*self._pids, *self._beside]), processes.busy_s()

    def _ask(self, message: Any, seconds: float) -> Any:
        self._send(message)
        return self._receive(seconds)

    def _send(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except ConnectionError:
            raise BrokerError(self._told("ended by itself")) from None

    def _receive(self, seconds: float) -> Any:
        try:
            if not self._connection.poll(seconds):
                raise BrokerError(self._told(f"did not answer within {seconds:g} s"))
            reply = self._connection.recv()
        except (EOFError, ConnectionError):
            raise BrokerError(self._told("ended by itself")) from None
        if isinstance(reply, BrokerError):
            raise reply
        return reply

    def _told(self, what: str) -> str:
        """With the last lines that its processes have written."""
        self._output.seek(0)
        said = self._output.read().decode(errors="replace").strip().splitlines()[-_SAID_LINES:]
        return "\n".join([f"the workers of the arm {self.arm.label!r}: their master {what}", *said])
