"""A raw Unix socket: frames of a fixed size, received into place, nothing pickled. The least that a socket costs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.arms.one_worker.answering import answering
from benchmarks.harness.timed import Timed
from benchmarks.workloads import Workload
from broker.bench.load.forks import forked
from broker.models.aligned import aligned_empty


@contextmanager
def unix_socket(workload: Workload, path: str | None = None) -> Iterator[Timed]:
    """Shapes are agreed on beforehand, so that a frame is nothing but the tensor."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    x = workload.inputs[0]
    with forked(_serve, theirs, ours, workload.name, path, x.shape, x.dtype):
        theirs.close()
        yield caller(ours, workload)
    ours.close()


def caller(sock: socket.socket, workload: Workload) -> Timed:
    """One worker's end."""
    y = workload.answers[0]
    shape, dtype, nbytes = y.shape, y.dtype, y.nbytes

    def call(x: np.ndarray) -> np.ndarray:
        sock.sendall(x)
        answer = np.empty(shape, dtype)
        receive(sock, answer, nbytes)
        return answer

    return Timed(call)


def receive(sock: socket.socket, into: np.ndarray, nbytes: int) -> None:
    """A whole frame. Raises EOFError when there is none."""
    if sock.recv_into(into, nbytes, socket.MSG_WAITALL) != nbytes:
        raise EOFError("the other end of the socket has gone")


def _serve(
    sock: socket.socket,
    others: socket.socket,
    workload: str,
    path: str | None,
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> None:
    others.close()
    answer = answering(workload, path)
    x = aligned_empty(shape, dtype)
    nbytes = x.nbytes
    while True:
        receive(sock, x, nbytes)
        sock.sendall(answer(x))
