"""Models of tests/process/commands/test_bench.py."""

from __future__ import annotations

import os
from functools import partial

import numpy as np

from broker.models.python.function import signature as signed

signature = partial(signed, independent_rows=True)  # tests are about joined requests, too

_SIDES = {"inputs": {"x": ("float32", [None, 4])}, "outputs": {"y": ("float32", [None, 4])}}


@signature(**_SIDES)  # type: ignore[arg-type]
def double(x: np.ndarray) -> np.ndarray:
    return x * 2


@signature(**_SIDES)  # type: ignore[arg-type]
def at_random(x: np.ndarray) -> np.ndarray:
    """Another answer each time."""
    return x + np.random.default_rng().random(x.shape, np.float32)


@signature(**_SIDES)  # type: ignore[arg-type]
def of_its_process(x: np.ndarray) -> np.ndarray:
    """The same in one process, another one in the next: what a broker with the wrong model answers."""
    return np.full_like(x, os.getpid())
