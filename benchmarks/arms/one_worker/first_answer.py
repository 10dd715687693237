"""The time from fork() to the first answer in a worker of a prefork server. The child process measures it.

Both parents have numpy and the client imported, as a preloaded app would. Neither has TensorFlow: a process that has
cannot fork workers that use it.
"""

from __future__ import annotations

import os
import struct
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic_ns

import numpy as np

import worker_client
from benchmarks.arms.one_worker.session import load
from benchmarks.harness.timed import Timed
from benchmarks.workloads import Workload
from broker.bench.load.forks import die_with_parent

_WHEN = struct.Struct("<q")
_FirstAnswer = tuple[int, np.ndarray]  # nanoseconds from the fork, answer


@contextmanager
def through_broker(workload: Workload, address: str, model: str) -> Iterator[Timed]:
    """Client and model handle are made before the fork; the child attaches with its first call."""
    client = worker_client.connect(address)
    yield _timed(workload, client.model(model).predict)


@contextmanager
def own_session(workload: Workload, path: str) -> Iterator[Timed]:
    """The child imports TensorFlow, loads the SavedModel and runs it once."""

    def answer(x: np.ndarray) -> np.ndarray:
        session, feed, fetch = load(path)
        found: np.ndarray = session.run(fetch, {feed: x})
        return found

    yield _timed(workload, answer)


def _timed(workload: Workload, answer: Callable[[np.ndarray], np.ndarray]) -> Timed:
    expected = workload.answers[0]

    def call(x: np.ndarray) -> _FirstAnswer:
        elapsed_ns, raw = _in_fork(lambda: answer(x))
        return elapsed_ns, np.frombuffer(raw, expected.dtype).reshape(expected.shape)

    return Timed(call, read=lambda result: result[1], elapsed_ns=lambda result: result[0])


def _in_fork(answer: Callable[[], np.ndarray]) -> tuple[int, bytes]:
    """Nanoseconds from before the fork to the answer in the child, and the answer's bytes."""
    read, write = os.pipe()
    start = monotonic_ns()
    pid = os.fork()
    if pid == 0:
        _answer_and_exit(answer, write)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status or len(said) < _WHEN.size:
        raise RuntimeError(f"the forked worker ended with status {status} and no answer")
    return _WHEN.unpack_from(said)[0] - start, said[_WHEN.size :]


def _answer_and_exit(answer: Callable[[], np.ndarray], write: int) -> None:
    try:
        die_with_parent()
        found = answer()
        when = monotonic_ns()
        os.write(write, _WHEN.pack(when) + found.tobytes())
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
