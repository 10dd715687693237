"""Models that benchmarks serve beside `broker.models.python.echo`."""

from __future__ import annotations

import time

import numpy as np

from benchmarks import workloads
from broker.models.python.echo import echo
from broker.models.python.function import signature


@signature(
    inputs={"x": ("float32", [None, 128])}, outputs={"y": ("float32", [None, 10])}, independent_rows=True
)
def head(x: np.ndarray) -> np.ndarray:
    """The first ten values of each row: as cheap as `echo`, but the answer shows which row it belongs to."""
    return workloads.head(x)


@signature(
    inputs={"x": ("float32", [None, *workloads.IMAGE_SHAPE])},
    outputs={"y": ("float32", [None, 10])},
    independent_rows=True,
)
def echo_image(x: np.ndarray) -> np.ndarray:
    """The same as `echo` for rows of 602,112 bytes: large requests, small answers."""
    return echo(x)


@signature(
    inputs={"x": ("float32", [None, *workloads.IMAGE_SHAPE])},
    outputs={"y": ("float32", [None, 10])},
    independent_rows=True,
)
def strided(x: np.ndarray) -> np.ndarray:
    """Ten values of each image. `echo_image` does not read its input; this shows that the input arrives."""
    return workloads.strided(x)


def cannot_load() -> None:
    """A factory that fails. Its message says when: on the monotonic clock, in nanoseconds."""
    time.sleep(0.2)
    raise RuntimeError(f"no weights at {time.monotonic_ns()} ns")


@signature(inputs={"x": ("float32", [None])}, outputs={"y": ("float32", [None])})
def one_in_twenty(x: np.ndarray) -> np.ndarray:
    """Requests whose first value is not 0 take 100 ms."""
    if x[0]:
        time.sleep(0.1)
    return x


@signature(inputs={"x": ("float32", [None])}, outputs={"y": ("float32", [None])})
def in_python(x: np.ndarray) -> np.ndarray:
    """Holds the interpreter's lock for some 20 ms, as loops over rows do."""
    total = 0
    for number in range(400_000):
        total += number
    return x + np.float32(total % 2)
