"""A worker of a pool: opens its arm, answers each input once, and makes its share of the load in every window.

master                                    worker (forked)
                <------ pipe ------       ready: pid and what the arm knows of the model
Inputs          ------- pipe ----->       answers each once, checks it; the answers, if they are wanted
WindowOrder     ------- pipe ----->       calls until the window ends; the CallSamples of each thread
the end         ------------------>       closes what it has open and ends
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from broker.bench.answers import check
from broker.bench.arms import Named, Opened, WorkerArm
from broker.bench.load import loops
from broker.bench.load.arrivals import planned_ns
from broker.bench.load.forks import messages
from broker.bench.load.loops import Moments, WindowRecord
from broker.bench.load.samples import CallSamples
from broker.bench.plan import Load
from worker_client.wire.errors import BrokerError


@dataclass(frozen=True)
class Inputs:
    """The inputs of all later calls. `expected` has the right answers, None where they are not known."""

    inputs: Sequence[Named]
    expected: Sequence[Named] | None
    tolerance: float
    wanted: bool = False
    """True if the answers are to be returned."""


@dataclass(frozen=True)
class WindowOrder:
    """A window, from `start_ns` to `end_ns`; calls begin at `begin_ns`. `seed` makes the plan of an open loop."""

    load: Load
    begin_ns: int
    start_ns: int
    end_ns: int
    seed: list[int]


class BenchWorker:
    """One of `workers`, at its number."""

    def __init__(self, opened: Opened, number: int, workers: int) -> None:
        self._opened = opened
        self._number = number
        self._workers = workers
        self._threads = ThreadPoolExecutor(max_workers=256, thread_name_prefix="onesession-bench")
        self._callers = [opened.caller()]
        self._given = Inputs((), None, 0)
        self._prepared: list[Any] = []

    def close(self) -> None:
        self._threads.shutdown()

    def take(self, given: Inputs) -> list[Named]:
        """Answer each once: first use is not what is measured. Raises WrongAnswer, and what a call raises."""
        self._given = given
        self._prepared = [self._opened.prepared(inputs) for inputs in given.inputs]
        answers = [self._callers[0].call(prepared) for prepared in self._prepared]
        self._check(answers)
        return [self._opened.named(answer) for answer in answers] if given.wanted else []

    def run(self, run: WindowOrder) -> list[CallSamples]:
        """The CallSamples of each thread. Raises WrongAnswer."""
        count = run.load.concurrency
        while len(self._callers) < count:
            self._callers.append(self._opened.caller())
        moments = self._moments(run)
        if count == 1:
            records = [self._loop(0, run, moments)]
        else:
            loops = [self._threads.submit(self._loop, number, run, moments) for number in range(count)]
            records = [loop.result() for loop in loops]
        for record in records:
            record.samples.checked = self._check(record.answers)
        return [record.done() for record in records]

    def _loop(self, number: int, run: WindowOrder, moments: Moments | None) -> WindowRecord:
        record = WindowRecord(run.start_ns, run.end_ns, len(self._prepared))
        if moments is None:
            loops.closed(self._callers[number], self._prepared, record)
        else:
            loops.planned(self._callers[number], self._prepared, record, moments)
        return record

    def _moments(self, run: WindowOrder) -> Moments | None:
        if run.load.rate is None:
            return None
        seconds = (run.end_ns - run.begin_ns) / 1e9
        planned = planned_ns(run.load, self._number, self._workers, seconds, run.seed)
        return Moments(planned.tolist(), run.begin_ns)

    def _check(self, answers: Sequence[Any]) -> int:
        expected = self._given.expected
        if expected is None:
            return 0
        checked = 0
        for number, (wanted, answer) in enumerate(zip(expected, answers), 1):
            if answer is not None:
                what = f"input {number} of {len(expected)}"
                check(wanted, self._opened.named(answer), self._given.tolerance, what)
                checked += 1
        return checked


def main(connection: Connection, arm: WorkerArm, number: int, workers: int) -> None:
    """Runs until the master closes the pipe. An error is sent to the master, and ends this worker."""
    try:
        with arm.open() as opened:
            worker = BenchWorker(opened, number, workers)
            try:
                connection.send({"pid": os.getpid(), **opened.about})
                for message in messages(connection):
                    taken = isinstance(message, Inputs)
                    connection.send(worker.take(message) if taken else worker.run(message))
            finally:
                worker.close()
    except BrokerError as error:
        connection.send(_sendable(error))
    except Exception as error:
        connection.send(BrokerError(f"{type(error).__name__}: {error}"))


def _sendable(error: BrokerError) -> BrokerError:
    """The error without what it refers to, which may not be able to cross a pipe."""
    error.__cause__ = error.__context__ = None
    return error if type(error).__module__.startswith("worker_client") else BrokerError(str(error))
