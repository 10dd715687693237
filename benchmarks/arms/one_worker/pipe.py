"""`multiprocessing.Pipe`: the tensors are pickled, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np

from benchmarks.arms.one_worker.answering import answering
from benchmarks.harness.timed import Timed
from benchmarks.workloads import Workload
from broker.bench.load.forks import forked


@contextmanager
def pipe(workload: Workload, path: str | None = None) -> Iterator[Timed]:
    """Send the array, receive the answer."""
    ours, theirs = Pipe()
    with forked(_serve, theirs, ours, workload.name, path):
        theirs.close()
        yield caller(ours)
    ours.close()


def caller(connection: Connection) -> Timed:
    """One worker's end."""

    def call(x: np.ndarray) -> np.ndarray:
        connection.send(x)
        answer: np.ndarray = connection.recv()
        return answer

    return Timed(call)


def _serve(connection: Connection, others: Connection, workload: str, path: str | None) -> None:
    others.close()
    answer = answering(workload, path)
    while True:
        connection.send(answer(connection.recv()))
