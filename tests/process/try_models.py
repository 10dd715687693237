"""Models of tests/process/commands/test_try.py."""

from __future__ import annotations

import time

import numpy as np

from broker import signature
from tests.process.models import HEAVY_SECONDS, pass_gate


@signature(inputs={"x": ("float32", [None, 3])}, outputs={"y": ("float32", [None])}, independent_rows=True)
def total(x: np.ndarray) -> np.ndarray:
    return x.sum(1)


@signature(
    inputs={"pixel values": ("float32", [None, 2]), "class": ("int64", [None])},
    outputs={"score": ("float64", [None]), "class": ("int64", [None])},
    independent_rows=True,
)
def pair(pixels: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return pixels.sum(1) + number / 2, number + 1


@signature(
    inputs={"text": ("string", [None])},
    outputs={"loud": ("string", [None]), "table": ("string", [None, 1]), "length": ("int32", [None])},
    independent_rows=True,
)
def shout(text: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    loud = np.array([*[each.decode().upper().encode() for each in text], None], object)[:-1]
    return loud, loud[:, None], np.array([len(each) for each in text], np.int32)


@signature(inputs={"z": ("complex64", [None])}, outputs={"w": ("complex64", [None])}, independent_rows=True)
def turned(z: np.ndarray) -> np.ndarray:
    return z * np.complex64(1j)


@signature(inputs={"x": ("float32", [2, 3])}, outputs={"y": ("float32", [2])})
def fixed(x: np.ndarray) -> np.ndarray:
    return x.sum(1)


@signature(inputs={}, outputs={"y": ("float32", [2])})
def constant() -> np.ndarray:
    return np.array([1, 2], np.float32)


@signature(inputs={"x": ("float32", [None, 3])}, outputs={"runs": ("int64", [1])}, stateful=True)
def counter(x: np.ndarray) -> np.ndarray:
    _runs.append(len(x))
    return np.array([len(_runs)])


_runs: list[int] = []


@signature(inputs={"text": ("string", [None])}, outputs={"number": ("float64", [None])})
def number(text: np.ndarray) -> np.ndarray:
    return np.array([float(each) for each in text])


@signature(inputs={"x": ("float32", None)}, outputs={"y": ("float32", None)})
def of_any_rank(x: np.ndarray) -> np.ndarray:
    return x


@signature(inputs={"x": ("float32", [None, 3])}, outputs={"y": ("float32", [None, 3])})
def waits(x: np.ndarray) -> np.ndarray:
    """Answers zeros only, until the test opens for request 1."""
    time.sleep(HEAVY_SECONDS)
    if x.any():
        pass_gate(1)
    return x
