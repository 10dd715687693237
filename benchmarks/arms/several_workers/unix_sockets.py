"""A raw Unix socket to each worker from one process with the bare callable: the leanest broker that sockets allow.

Frames of a fixed size, received into place, nothing pickled, one `epoll` for all. In one form requests are run one by
one; in the other, all that are there are run as one batch, as a broker would.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np

from benchmarks.arms.one_worker.answering import answering
from benchmarks.arms.one_worker.unix_socket import caller, receive
from benchmarks.harness.timed import ArmWorker, ArmWorkers
from benchmarks.workloads import Workload
from broker.bench.load.forks import forked
from broker.models.aligned import aligned_empty

Answer = Callable[[np.ndarray], np.ndarray]


@contextmanager
def unix_sockets(
    workload: Workload, workers: int, path: str | None, threads: int, batching: bool
) -> Iterator[ArmWorkers]:
    """`workers` callers."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(workers)]
    with forked(_serve, [theirs for _, theirs in pairs], workload, path, threads, batching):
        yield ArmWorkers(
            [ArmWorker(lambda end=ours: nullcontext(caller(end, workload)), workload) for ours, _ in pairs]
        )
    for pair in pairs:
        for end in pair:
            end.close()


def _serve(
    socks: list[socket.socket], workload: Workload, path: str | None, threads: int, batching: bool
) -> None:
    answer = answering(workload.name, path, threads)
    x = workload.inputs[0]
    batch = aligned_empty((len(socks), *x.shape[1:]), x.dtype)
    epoll = select.epoll()
    for sock in socks:
        epoll.register(sock, select.EPOLLIN)
    by_number = {sock.fileno(): sock for sock in socks}
    (_serve_batches if batching else _serve_one_by_one)(epoll, by_number, answer, batch)


def _serve_one_by_one(
    epoll: select.epoll, socks: dict[int, socket.socket], answer: Answer, batch: np.ndarray
) -> None:
    x, nbytes = batch[:1], batch[:1].nbytes
    while True:
        for number, _ in epoll.poll():
            sock = socks[number]
            receive(sock, x, nbytes)
            sock.sendall(answer(x))


def _serve_batches(
    epoll: select.epoll, socks: dict[int, socket.socket], answer: Answer, batch: np.ndarray
) -> None:
    """Every request is of one row."""
    rows = [batch[row : row + 1] for row in range(len(batch))]
    nbytes = rows[0].nbytes
    while True:
        ready = [socks[number] for number, _ in epoll.poll()]
        for sock, row in zip(ready, rows):
            receive(sock, row, nbytes)
        answers = answer(batch[: len(ready)])
        for row, sock in enumerate(ready):
            sock.sendall(answers[row : row + 1])
