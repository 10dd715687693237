"""Functions that are light on zeros; each answers on which thread of the broker it ran."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import numpy as np

from broker import signature
from tests.process.models import pass_gate

INLINE, APART = 1, 2
SLOW = 1.0
"""In the first element: a run of 100 ms; FAILING: one that fails after as long."""
FAILING = 2.0
SLOW_SECONDS = 0.1

io: dict[str, Any] = {"inputs": {"x": ("float32", [None])}, "outputs": {"thread": ("int64", [None])}}
rows = partial(signature, **io, independent_rows=True)


def place(x: np.ndarray) -> np.ndarray:
    inline = threading.current_thread().name == "onesession-intake"
    return np.full(len(x), INLINE if inline else APART, np.int64)


@rows()
def uneven(x: np.ndarray) -> np.ndarray:
    if (x > 0).any():
        time.sleep(SLOW_SECONDS)
    if (x == FAILING).any():
        raise ValueError("as asked")
    return place(x)


@rows()
def spoiled(x: np.ndarray) -> np.ndarray:
    """As `uneven`, but what fails does so at once."""
    if (x == FAILING).any():
        raise ValueError("as asked")
    return uneven(x)


@rows()
def even(x: np.ndarray) -> np.ndarray:
    return place(x)


@rows()
def gated(x: np.ndarray) -> np.ndarray:
    """Holds the intake thread until the test lets go of it."""
    pass_gate(int(x[0]))
    return place(x)


COPIED = 16 << 20
"""float64 of the answer `copied`: 128 MiB, which take tens of milliseconds to copy and none to make."""
_ZEROS = np.zeros((1, COPIED))


@signature(
    inputs={"x": ("float32", [])}, outputs={"thread": ("int64", []), "zeros": ("float64", [None, COPIED])}
)
def copied(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return place(np.zeros(1))[0], _ZEROS if x > 0 else _ZEROS[:0]
