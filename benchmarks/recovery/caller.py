"""The callers of a broker that is killed: each is a process in a closed loop, and reports the call that met the death.

`told`      calls with retries=0, which end with BrokerUnavailable; it stops at the first
`patient`   calls as applications make them, which are run again on the next broker; it stops when `progress` says so
"""

from __future__ import annotations

import mmap
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from multiprocessing.connection import Connection
from time import monotonic_ns

import worker_client
from benchmarks.harness.arm import ArmFailed
from benchmarks.workloads import Checker, Workload
from broker.bench.load.forks import ForkedProcess, wait_or_kill

TIMEOUT_S = 60.0
"""Timeout of every call: longer than a restart takes."""
PATIENCE_S = 90.0


@dataclass(frozen=True)
class Met:
    """The call that met the broker's death: CLOCK_MONOTONIC in nanoseconds when it began and when it was over."""

    began_ns: int
    ended_ns: int
    error: str | None
    checked: int  # answers of this caller that were compared with the expected ones


class CallerProgress:
    """Two words of shared memory: the number of the caller's answers so far, and whether it must stop."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    @property
    def answers(self) -> int:
        return int(self._words[0])

    def count(self) -> None:
        self._words[0] += 1

    @property
    def stopped(self) -> bool:
        return bool(self._words[1])

    def stop(self) -> None:
        self._words[1] = 1


Body = Callable[[str, str, Workload, CallerProgress], Met]


class CallerProcess(ForkedProcess):
    """A running caller."""

    def __init__(self, body: Body, address: str, model: str, workload: Workload) -> None:
        self.progress = CallerProgress()
        super().__init__(partial(_main, body, address, model, workload, self.progress))

    def await_answers(self, count: int) -> None:
        """Return when so many more calls are answered, or it has ended. Raises ArmFailed if it hangs."""
        wanted = self.progress.answers + count
        limit = time.monotonic() + PATIENCE_S
        while self.progress.answers < wanted and not self.ended:
            if time.monotonic() > limit:
                raise ArmFailed(f"a caller has no answer for {PATIENCE_S:g} s")
            time.sleep(0.001)

    @property
    def ended(self) -> bool:
        """It has said what its call met, or failed."""
        return self.connection.poll(0)

    def result(self) -> Met:
        """Raises ArmFailed."""
        try:
            said = self.connection.recv() if self.connection.poll(PATIENCE_S) else "it hangs"
        except EOFError:
            said = "it ended by itself"
        if not isinstance(said, Met):
            raise ArmFailed(f"a caller failed: {said}")
        return said

    def close(self) -> None:
        self.connection.close()
        wait_or_kill(self.pid, 0.5)


def _main(
    body: Body, address: str, model: str, workload: Workload, progress: CallerProgress, connection: Connection
) -> None:
    try:
        connection.send(body(address, model, workload, progress))
    except Exception:
        connection.send(traceback.format_exc())


def told(address: str, model: str, workload: Workload, progress: CallerProgress) -> Met:
    """Meets nothing where the broker died between two of its calls: the next one waits for the next broker."""
    checker = Checker(workload)
    began = monotonic_ns()
    with worker_client.connect(address, timeout=TIMEOUT_S, retries=0) as client:
        predict = client.model(model).predict
        for index, x in cycle(enumerate(workload.inputs)):
            if progress.stopped:
                break
            began = monotonic_ns()
            try:
                answer = predict(x)
            except worker_client.BrokerUnavailable as error:
                return Met(began, monotonic_ns(), str(error), checker.checked)
            checker.check(index, answer)
            progress.count()
    return Met(began, monotonic_ns(), None, checker.checked)


def patient(address: str, model: str, workload: Workload, progress: CallerProgress) -> Met:
    """Its longest call is the one that met the death: any other takes a thousandth of it."""
    checker = Checker(workload)
    longest = 0, 0
    with worker_client.connect(address, timeout=TIMEOUT_S) as client:
        predict = client.model(model).predict
        for index, x in cycle(enumerate(workload.inputs)):
            if progress.stopped:
                break
            began = monotonic_ns()
            try:
                answer = predict(x)
            except worker_client.BrokerError as error:
                return Met(began, monotonic_ns(), f"{type(error).__name__}: {error}", checker.checked)
            ended = monotonic_ns()
            if progress.answers and ended - began > longest[1] - longest[0]:  # the first call attaches
                longest = began, ended
            checker.check(index, answer)
            progress.count()
    return Met(*longest, None, checker.checked)
