"""`multiprocessing.Pool` with a session in each process: how work is spread over processes today."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.pool import ApplyResult, Pool
from time import monotonic_ns

import numpy as np

from benchmarks.arms.one_worker.session import making
from benchmarks.arms.several_workers.each import import_tensorflow
from benchmarks.arms.several_workers.in_flight import EACH, in_flight
from benchmarks.harness.timed import Answers, ArmWorker, ArmWorkers, Flow
from benchmarks.workloads import Workload
from broker.bench.load.forks import die_with_parent

_MAP_ROUNDS = 4  # of EACH items for each process in one map


@contextmanager
def pool_map(
    workload: Workload, workers: int, path: str, threads: int, bare: bool = False
) -> Iterator[ArmWorkers]:
    """`pool.map(run, items)`, again and again; an answer has come when the map has."""

    def answers(pool: Pool) -> Answers:
        inputs = workload.inputs
        size = workers * EACH * _MAP_ROUNDS
        items = [inputs[number % len(inputs)] for number in range(size)]
        while True:
            began = monotonic_ns()
            found = pool.map(_run, items)
            ended = monotonic_ns()
            for number, answer in enumerate(found):
                yield number % len(inputs), began, ended, answer

    yield _workers(workload, workers, (path, threads, bare), answers)


@contextmanager
def pool_apply_async(
    workload: Workload, workers: int, path: str, threads: int, bare: bool = False
) -> Iterator[ArmWorkers]:
    """`pool.apply_async(run, (x,))` for several at a time, and `get()` in their order."""

    def answers(pool: Pool) -> Answers:
        pending: deque[tuple[int, ApplyResult[np.ndarray]]] = deque()

        def submit(number: int, x: np.ndarray) -> None:
            pending.append((number, pool.apply_async(_run, (x,))))

        def receive() -> tuple[int, np.ndarray]:
            number, result = pending.popleft()
            return number, result.get()

        return in_flight(workload.inputs, submit, receive, workers * EACH)

    yield _workers(workload, workers, (path, threads, bare), answers)


def _workers(
    workload: Workload,
    workers: int,
    session: tuple[str, int, bool],
    answers: Callable[[Pool], Answers],
) -> ArmWorkers:
    """One worker: the process that has the pool."""
    import_tensorflow()

    @contextmanager
    def pool() -> Iterator[Flow]:
        made = get_context("fork").Pool(workers, _load, session)
        try:
            yield Flow(partial(answers, made))
        finally:
            made.close()
            made.join()

    return ArmWorkers([ArmWorker(pool, workload)])


# --- in the pool's processes ---

_session: Callable[[np.ndarray], np.ndarray]


def _load(path: str, threads: int, bare: bool) -> None:
    global _session
    die_with_parent()
    _session = making(bare)(path, threads)


def _run(x: np.ndarray) -> np.ndarray:
    return _session(x)
