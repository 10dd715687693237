"""Models that benchmarks serve beside those of `broker.models.echo`."""

from __future__ import annotations

import numpy as np

from benchmarks import workloads
from broker.models.function import signature


@signature(
    inputs={"x": ("float32", [None, 128])}, outputs={"y": ("float32", [None, 10])}, independent_rows=True
)
def head(x: np.ndarray) -> np.ndarray:
    """The first ten values of each row. As cheap as `echo`, whose answer does not tell which row it belongs to."""
    return workloads.head(x)


@signature(
    inputs={"x": ("float32", [None, *workloads.IMAGE_SHAPE])},
    outputs={"y": ("float32", [None, 10])},
    independent_rows=True,
)
def strided(x: np.ndarray) -> np.ndarray:
    """Ten values of each image. `echo_image` does not read its input; this shows that the input arrives."""
    return workloads.strided(x)
