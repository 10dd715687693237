"""A call through the broker. This process imports no TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

import worker_client
from benchmarks.harness.host import affinity
from benchmarks.harness.timed import Timed
from benchmarks.workloads import Workload, strided
from broker.bench.answers import WrongAnswer


@contextmanager
def predict(
    workload: Workload, address: str, model: str, wait: str = "adaptive", pinned: bool = False
) -> Iterator[Timed]:
    """`predict(x)`: copies x into shared memory and the answer out of it."""
    if pinned:
        affinity.pin(affinity.CALLER)
    with worker_client.connect(address, wait=wait) as client:
        if workload.name == "image":
            verify_transfer(client, workload)
        call = client.model(model).predict
        call(workload.inputs[0])
        assert "tensorflow" not in sys.modules
        yield Timed(call)


@contextmanager
def in_place(workload: Workload, address: str, model: str, fill: bool) -> Iterator[Timed]:
    """`request.run()` in one open request. With `fill`, copying x into place is timed as well."""
    with worker_client.connect(address) as client:
        verify_transfer(client, workload)
        with client.model(model).request(rows=1) as request:
            place = request["x"]

            def write(x: np.ndarray) -> None:
                place[...] = x

            def run(x: np.ndarray) -> np.ndarray:
                return request.run()["y"]

            def write_and_run(x: np.ndarray) -> np.ndarray:
                place[...] = x
                return request.run()["y"]

            yield Timed(write_and_run) if fill else Timed(run, prepare=write)


def verify_transfer(client: worker_client.Client, workload: Workload) -> None:
    """`echo_image` does not read its input, so check that inputs arrive at a model that does. Raises WrongAnswer."""
    model = client.model("strided")
    for x in workload.inputs:
        with model.request(rows=1) as request:
            request["x"] = x
            if not np.array_equal(request.run()["y"], strided(x)) or not np.array_equal(
                model.predict(x), strided(x)
            ):
                raise WrongAnswer("the input that the broker saw is not the one that was sent")
