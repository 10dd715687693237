"""A light model's only worker, paced, while a heavy model runs flat out: in the same broker, or in a process beside."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np

from benchmarks import workloads
from benchmarks.arms.one_worker import broker_call
from benchmarks.arms.one_worker.session import bare
from benchmarks.arms.several_workers.brokered import address_in, arm_workers
from benchmarks.arms.several_workers.in_flight import in_flight
from benchmarks.harness.timed import ArmWorker, ArmWorkers, Flow
from benchmarks.workloads import Workload
from broker import Broker

PAUSE_S = 0.001
"""Between two calls of the light model: it is asked at a bounded rate, far below what it could answer."""


@contextmanager
def alone(workload: Workload, directory: str, light: str) -> Iterator[ArmWorkers]:
    """The light model on a machine that does nothing else."""
    with _broker(directory, light=light) as broker:
        yield arm_workers([_caller(workload, broker.address)], broker.address, "light")


@contextmanager
def in_one_broker(
    workload: Workload, directory: str, light: str, heavy: str, workers: int
) -> Iterator[ArmWorkers]:
    """Both models in one broker; `workers` keep the heavy one busy: more than it runs side by side."""
    batch = _batch()
    with _broker(directory, light=light, heavy=heavy) as broker:
        load = ArmWorker(partial(broker_call.predict, batch, broker.address, "heavy"), batch, counted=False)
        callers = [_caller(workload, broker.address), *[load] * workers]
        yield arm_workers(callers, broker.address, "light")


@contextmanager
def beside_a_process(
    workload: Workload, directory: str, light: str, heavy: str, threads: int, side_by_side: int
) -> Iterator[ArmWorkers]:
    """The light model in a broker; the heavy one in a process with a session of its own, set as the broker sets it."""
    load = ArmWorker(partial(_flat_out, _batch(), heavy, threads, side_by_side), _batch(), counted=False)
    with _broker(directory, light=light) as broker:
        yield arm_workers([_caller(workload, broker.address), load], broker.address, "light")


def _broker(directory: str, **models: str) -> Broker:
    """A broker with its own settings, which were measured before."""
    return Broker(models=models, name=address_in(directory), tune="remembered")


def _caller(workload: Workload, address: str) -> ArmWorker:
    return ArmWorker(partial(broker_call.predict, workload, address, "light"), workload, PAUSE_S)


def _batch() -> Workload:
    return workloads.make("mobilenet_batch", 0)


@contextmanager
def _flat_out(batch: Workload, path: str, threads: int, side_by_side: int) -> Iterator[Flow]:
    """The bare callable, run on as many threads as the broker runs it side by side."""
    run = bare(path, threads)
    pending: deque[tuple[int, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(side_by_side) as executor:

        def submit(number: int, x: np.ndarray) -> None:
            pending.append((number, executor.submit(run, x)))

        def receive() -> tuple[int, np.ndarray]:
            number, future = pending.popleft()
            return number, future.result()

        yield Flow(lambda: in_flight(batch.inputs, submit, receive, side_by_side + 1))
