"""Threads of one process with TensorFlow in it: how web apps without a model server share a session today.

One worker process, in which each thread is a caller in a closed loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from queue import SimpleQueue
from time import monotonic_ns
from typing import Any

import numpy as np

from benchmarks.arms.one_worker.session import LoadedSession, load
from benchmarks.harness.timed import Answers, ArmWorker, ArmWorkers, Flow
from benchmarks.workloads import Workload

Call = Callable[[np.ndarray], np.ndarray]
_Answer = tuple[int, int, int, np.ndarray]


@contextmanager
def session_passed(workload: Workload, workers: int, path: str, threads: int) -> Iterator[ArmWorkers]:
    """One module makes the session and hands it to the others, each on a thread of its own."""

    def callers() -> list[Call]:
        loaded = load(path, threads)
        return [_of(loaded)] * workers

    yield _workers(workload, callers)


@contextmanager
def singleton(workload: Workload, workers: int, path: str, threads: int) -> Iterator[ArmWorkers]:
    """Every call asks for the process' only session, which is made at the first call."""

    def callers() -> list[Call]:
        only = _Singleton(partial(load, path, threads))

        def call(x: np.ndarray) -> np.ndarray:
            session, feed, fetch = only.get()
            answer: np.ndarray = session.run(fetch, {feed: x})
            return answer

        return [call] * workers

    yield _workers(workload, callers)


@contextmanager
def session_per_thread(workload: Workload, workers: int, path: str, threads: int) -> Iterator[ArmWorkers]:
    """A graph and a session in each thread."""
    yield _workers(workload, lambda: [_of(load(path, threads)) for _ in range(workers)])


class _Singleton:
    """Made once, at the first `get`, by whichever thread comes first."""

    def __init__(self, make: Callable[[], LoadedSession]) -> None:
        self._make = make
        self._made: LoadedSession | None = None
        self._lock = threading.Lock()

    def get(self) -> LoadedSession:
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = self._make()
        return self._made


def _of(loaded: LoadedSession) -> Call:
    session, feed, fetch = loaded
    run = session.run
    return lambda x: run(fetch, {feed: x})


def _workers(workload: Workload, callers: Callable[[], list[Call]]) -> ArmWorkers:
    @contextmanager
    def flow() -> Iterator[Flow]:
        calls = callers()
        yield Flow(lambda: _answers(calls, workload.inputs))

    return ArmWorkers([ArmWorker(flow, workload)])


def _answers(calls: list[Call], inputs: list[np.ndarray]) -> Answers:
    """The answers of all threads, as they come. The threads end when the generator is closed."""
    came: SimpleQueue[_Answer | BaseException] = SimpleQueue()
    done = threading.Event()
    threads = [threading.Thread(target=_loop, args=(call, inputs, came, done)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        while True:
            answer = came.get()
            if isinstance(answer, BaseException):
                raise answer
            yield answer
    finally:
        done.set()
        for thread in threads:
            thread.join()


def _loop(call: Call, inputs: list[np.ndarray], came: SimpleQueue[Any], done: threading.Event) -> None:
    clock = monotonic_ns
    try:
        for index, x in cycle(enumerate(inputs)):
            began = clock()
            answer = call(x)
            came.put((index, began, clock(), answer))
            if done.is_set():
                return
    except BaseException as error:
        came.put(error)
