"""ZeroMQ: a ROUTER with the bare callable, and a DEALER in each worker. Frames are the raw tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import zmq

from benchmarks.arms.one_worker.answering import answering
from benchmarks.arms.several_workers.brokered import address_in
from benchmarks.harness.timed import ArmWorker, ArmWorkers, Timed
from benchmarks.workloads import Workload
from broker.bench.load.forks import forked
from broker.models.aligned import aligned_empty


@contextmanager
def zeromq(
    workload: Workload, workers: int, directory: str, path: str | None, threads: int
) -> Iterator[ArmWorkers]:
    """`workers` callers. The sockets are made in the processes that use them."""
    endpoint = f"ipc://{address_in(directory)}"
    with forked(_serve, endpoint, workload, path, threads):
        yield ArmWorkers([ArmWorker(partial(_caller, endpoint, workload), workload)] * workers)


@contextmanager
def _caller(endpoint: str, workload: Workload) -> Iterator[Timed]:
    y = workload.answers[0]
    shape, dtype = y.shape, y.dtype
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(endpoint)

        def call(x: np.ndarray) -> np.ndarray:
            dealer.send(x)
            return np.frombuffer(dealer.recv(), dtype).reshape(shape)

        yield Timed(call)


def _serve(endpoint: str, workload: Workload, path: str | None, threads: int) -> None:
    answer = answering(workload.name, path, threads)
    x = workload.inputs[0]
    into = aligned_empty(x.shape, x.dtype)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(endpoint)
        while True:
            sender, frame = router.recv_multipart()
            into[...] = np.frombuffer(frame, x.dtype).reshape(x.shape)
            router.send_multipart([sender, answer(into)])
