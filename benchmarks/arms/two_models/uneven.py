"""A light model's only worker, paced, beside a model that warm-up takes for lighter than its requests are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

import worker_client
from benchmarks.arms.one_worker import broker_call
from benchmarks.arms.several_workers.brokered import address_in, arm_workers
from benchmarks.arms.two_models.neighbours import PAUSE_S
from benchmarks.harness.timed import ArmWorker, ArmWorkers, Timed
from benchmarks.workloads import Workload
from broker import Broker
from worker_client import Client

IMAGE_SHAPE = (1, 512, 512, 3)
SLOW_EVERY = 20


@contextmanager
def beside_uneven(
    workload: Workload, directory: str, light: str, kind: str, source: str
) -> Iterator[ArmWorkers]:
    """Both in one broker. `kind` names the call that another worker makes over and over: one of `CALLS`."""
    models = {"light": light, "uneven": source}
    tick = np.zeros((1, 1), np.float32)
    with Broker(models=models, name=address_in(directory), tune="off") as broker:
        load = ArmWorker(
            partial(_calls, broker.address, kind, source),
            Workload(kind, [tick], [tick]),
            PAUSE_S,
            counted=False,
        )
        caller = ArmWorker(partial(broker_call.predict, workload, broker.address, "light"), workload, PAUSE_S)
        yield arm_workers([caller, load], broker.address, "light")


@contextmanager
def _calls(address: str, kind: str, source: str) -> Iterator[Timed]:
    with worker_client.connect(address) as client:
        call = CALLS[kind](client, source)

        def called(tick: np.ndarray) -> np.ndarray:
            call()
            return tick

        yield Timed(called)


def _jpegs(client: Client, source: str) -> Callable[[], Any]:
    image = np.array([Path(f"{source}.jpg").read_bytes()], object)
    return partial(client.model("uneven").predict, image)


def _convolutional(client: Client, _: str) -> Callable[[], Any]:
    return partial(client.model("uneven").predict, np.ones(IMAGE_SHAPE, np.float32))


def _unexported(client: Client, _: str) -> Callable[[], Any]:
    return partial(client.session("uneven").run, "costly:0", {"x:0": np.ones((1, 4), np.float32)})


def _one_in_twenty(client: Client, _: str) -> Callable[[], Any]:
    model, numbers = client.model("uneven"), count(1)
    return lambda: model.predict(np.full(1, next(numbers) % SLOW_EVERY == 0, np.float32))


def _in_python(client: Client, _: str) -> Callable[[], Any]:
    return partial(client.model("uneven").predict, np.zeros(1, np.float32))


CALLS: dict[str, Callable[[Client, str], Callable[[], Any]]] = {
    "jpegs": _jpegs,
    "convolutional": _convolutional,
    "unexported": _unexported,
    "one_in_twenty": _one_in_twenty,
    "in_python": _in_python,
}
