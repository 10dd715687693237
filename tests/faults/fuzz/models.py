"""Models for the fuzzer, one for each way that a request can take through the broker. None makes more than it gets."""

from __future__ import annotations

from functools import partial

import numpy as np

from broker import signature as signed
from broker.models.spec import ModelSpec

signature = partial(signed, independent_rows=True)  # tests are about joined requests, too

REGION_BYTES = 1024
"""Of each slot's input and output region."""


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def double(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return x * 2


@signature(
    inputs={"a": ("int32", [None, 2]), "b": ("float64", [None]), "flag": ("bool", [None, 1, 3])},
    outputs={"total": ("float64", [None]), "none": ("bool", [None, 3])},
)
def mixed(a: np.ndarray, b: np.ndarray, flag: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(all="ignore"):
        return a.sum(1) + b, ~flag[:, 0]


@signature(inputs={"x": ("uint8", None)}, outputs={"shape": ("int64", [None]), "first": ("uint8", [])})
def any_rank(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Not batchable; its input may have any shape."""
    return np.array(x.shape, np.int64), np.asarray(x.reshape(-1)[0] if x.size else 0, np.uint8)


@signature(inputs={"x": ("float32", [None, None])}, outputs={"sum": ("float32", [None])})
def ragged(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return x.sum(1, dtype=np.float32)


@signature(inputs={"x": ("float32", [None, None])}, outputs={"width": ("int64", [None])})
def wide(x: np.ndarray) -> np.ndarray:
    return np.full(len(x), x.shape[1], np.int64)


@signature(inputs={"n": ("int64", [])}, outputs={"y": ("int64", [])})
def scalar(n: np.ndarray) -> np.ndarray:
    return n


@signature(inputs={}, outputs={"y": ("int32", [3])})
def constant() -> np.ndarray:
    return np.array([1, 2, 3], np.int32)


SPECS = [
    ModelSpec("double", f"{__name__}:double"),
    ModelSpec("few", f"{__name__}:double", max_batch_size=4),
    ModelSpec("padded", f"{__name__}:double", allowed_batch_sizes=(1, 4, 8)),
    ModelSpec("mixed", f"{__name__}:mixed"),
    ModelSpec("any_rank", f"{__name__}:any_rank"),
    ModelSpec("ragged", f"{__name__}:ragged", pad_variable_length=True),
    ModelSpec("wide", f"{__name__}:wide", max_batch_size=16),
    ModelSpec("scalar", f"{__name__}:scalar"),
    ModelSpec("constant", f"{__name__}:constant"),
]
