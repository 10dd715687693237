"""One process of an arm of several: calls in a closed loop during a window that begins and ends at the same time for
all of them.

several_workers.py                          worker (forked)
(start, end)  -------- pipe -------->       calls until `end`; those that end after `start` count
              <------- pipe ---------       CallSamples, or a BrokerError
the end       ---------------------->       closes what it has open and ends
"""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import cycle
from multiprocessing.connection import Connection
from time import monotonic_ns

import numpy as np

from benchmarks.harness.timed import Answers, ArmWorker, Flow, Timed
from benchmarks.workloads import Checker
from broker.bench.load.arrivals import MOST_CALLS
from broker.bench.load.forks import messages
from broker.bench.load.loops import WindowRecord
from broker.bench.load.samples import CallSamples
from worker_client.wire.errors import BrokerError


def serve(connection: Connection, worker: ArmWorker) -> None:
    """The body of its process. An error goes to the other end, and ends it."""
    try:
        _serve(connection, worker)
    except Exception as error:
        traceback.print_exc()
        with suppress(ConnectionError):
            connection.send(BrokerError(f"{type(error).__name__}: {error}"))


def _serve(connection: Connection, worker: ArmWorker) -> None:
    checker = Checker(worker.workload)
    with worker.open() as opened:
        flow = opened if isinstance(opened, Flow) else _one_by_one(opened, worker)
        with closing(flow.answers()) as answers:
            for _, (index, _, _, answer) in zip(worker.workload.inputs, answers):
                checker.check(index, answer)  # first use is not what is measured
        connection.send(True)
        for times in messages(connection):
            with closing(flow.answers()) as answers:
                samples = count(answers, checker, *times)
            connection.send(samples)


def count(answers: Answers, checker: Checker, start_ns: int, end_ns: int) -> CallSamples:
    """Count the answers that come between `start_ns` and `end_ns`; all are checked. Raises WrongAnswer."""
    record, checked = WindowRecord(start_ns, end_ns), checker.checked
    for index, began_ns, ended_ns, answer in answers:
        checker.check(index, answer)
        if ended_ns >= end_ns or record.samples.answered == MOST_CALLS:
            break
        record.answered(began_ns, ended_ns)
    record.samples.checked = checker.checked - checked
    return record.done()


def _one_by_one(timed: Timed, worker: ArmWorker) -> Flow:
    """A caller that waits for each answer, and then pauses and computes, before it calls again."""
    assert timed.prepare is timed.read is timed.elapsed_ns is None
    inputs = list(enumerate(worker.workload.inputs))
    if not (worker.pause_s or worker.work_s):
        return Flow(lambda: _calls(timed.call, inputs))
    return Flow(lambda: _paced_calls(timed.call, inputs, worker.pause_s, int(worker.work_s * 1e9)))


def _calls(call: Callable[[np.ndarray], np.ndarray], inputs: list[tuple[int, np.ndarray]]) -> Answers:
    clock = monotonic_ns
    for index, x in cycle(inputs):
        began = clock()
        answer = call(x)
        yield index, began, clock(), answer


def _paced_calls(
    call: Callable[[np.ndarray], np.ndarray],
    inputs: list[tuple[int, np.ndarray]],
    pause_s: float,
    work_ns: int,
) -> Answers:
    clock = monotonic_ns
    for index, x in cycle(inputs):
        if pause_s:
            time.sleep(pause_s * random.uniform(0.5, 1.5))  # so that no worker keeps step with a clock
        end = time.thread_time_ns() + work_ns
        while time.thread_time_ns() < end:
            pass
        began = clock()
        answer = call(x)
        yield index, began, clock(), answer
