"""Arms that are faster than the broker, and the broker's arms with answers of 64 MiB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

import worker_client
from benchmarks import workloads
from benchmarks.arms.one_worker.session import bare
from benchmarks.harness.timed import Timed
from benchmarks.losses.huge_model import sample
from benchmarks.workloads import Workload


@contextmanager
def function(workload: Workload) -> Iterator[Timed]:
    """A model that takes a microsecond, called as a Python function."""
    yield Timed(workloads.head)


@contextmanager
def huge_in_process(workload: Workload, path: str) -> Iterator[Timed]:
    """The bare callable: the answer is TensorFlow's own buffer."""
    yield Timed(bare(path), read=sample)


@contextmanager
def huge_predict(workload: Workload, address: str) -> Iterator[Timed]:
    """`predict(x)`: the broker copies the answer into shared memory, the worker copies it out of there."""
    with worker_client.connect(address) as client:
        yield Timed(client.model("huge").predict, read=sample)


@contextmanager
def huge_in_place(workload: Workload, address: str) -> Iterator[Timed]:
    """`request.run()`: the broker's copy only. The values that are looked at are taken out while it is open."""
    with worker_client.connect(address) as client:
        model = client.model("huge")

        def call(x: np.ndarray) -> np.ndarray:
            with model.request(rows=1) as request:
                request["x"] = x
                return sample(request.run()["y"])

        yield Timed(call)
