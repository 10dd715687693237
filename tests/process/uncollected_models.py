"""Python models whose broker has no cycle collector. To be imported there only."""

from __future__ import annotations

import gc
import time

import numpy as np

from broker import signature
from tests.process.models import HEAVY_SECONDS

gc.disable()

BAD = -1.0
WIDE = 50_000


@signature(inputs={"x": ("float32", [None, None])}, outputs={"y": ("float32", [None])})
def light(x: np.ndarray) -> np.ndarray:
    if (x == BAD).any():
        raise ValueError("a bad row")
    return np.asarray(x.sum(1))


@signature(inputs={"x": ("float32", [None, None])}, outputs={"y": ("float32", [None])})
def heavy(x: np.ndarray) -> np.ndarray:
    time.sleep(HEAVY_SECONDS)
    return light(x)


@signature(inputs={"x": ("float32", [None, None])}, outputs={"y": ("float32", [None, WIDE])})
def widen(x: np.ndarray) -> np.ndarray:
    return np.tile(x[:, :1], (1, WIDE))


@signature(inputs={"text": ("string", [None])}, outputs={"text": ("string", [None])})
def texts(text: np.ndarray) -> np.ndarray:
    return text


@signature(inputs={"x": ("float32", [None, None])}, outputs={"y": ("float32", [None])})
def fewer(x: np.ndarray) -> np.ndarray:
    """Other rows than it took: a request that was cut in parts is run whole after all."""
    return np.asarray(x.sum(1)[: len(x) // 2 + 1])
