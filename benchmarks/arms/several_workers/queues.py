"""A pipeline of two `multiprocessing.Queue`s: a producer, processes with a session each, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import Any

import numpy as np

from benchmarks.arms.one_worker.session import making
from benchmarks.arms.several_workers.each import import_tensorflow
from benchmarks.arms.several_workers.in_flight import EACH, in_flight
from benchmarks.harness.timed import Answers, ArmWorker, ArmWorkers, Flow
from benchmarks.workloads import Workload
from broker.bench.load.forks import die_with_parent


@contextmanager
def queues(
    workload: Workload, workers: int, path: str, threads: int, bare: bool = False
) -> Iterator[ArmWorkers]:
    """One worker: the process that feeds one queue and empties the other."""
    import_tensorflow()
    yield ArmWorkers([ArmWorker(partial(_pipeline, workload, workers, path, threads, bare), workload)])


@contextmanager
def _pipeline(workload: Workload, workers: int, path: str, threads: int, bare: bool) -> Iterator[Flow]:
    context = get_context("fork")
    work, done = context.Queue(), context.Queue()
    consumer = (work, done, path, threads, bare)
    processes = [context.Process(target=_consume, args=consumer) for _ in range(workers)]
    for process in processes:
        process.start()
    try:
        yield Flow(partial(_answers, workload, work, done, workers))
    finally:
        for _ in processes:
            work.put(None)
        for process in processes:
            process.join()


def _answers(workload: Workload, work: Queue[Any], done: Queue[Any], workers: int) -> Answers:
    def submit(number: int, x: np.ndarray) -> None:
        work.put((number, x))

    return in_flight(workload.inputs, submit, done.get, workers * EACH)


def _consume(work: Queue[Any], done: Queue[Any], path: str, threads: int, bare: bool) -> None:
    die_with_parent()
    run = making(bare)(path, threads)
    while (item := work.get()) is not None:
        number, x = item
        done.put((number, run(x)))
