"""Models that do nothing, for benchmarks and tests: what a call through them costs is the broker's own cost.

Serve them as `broker.models.python.echo:echo` and `broker.models.python.echo:echo_image`.
"""

from __future__ import annotations

import numpy as np

from broker.models.aligned import aligned_empty
from broker.models.python.function import signature

STORED_ROWS = 4096


def _answers() -> np.ndarray:
    """Row i, column j holds i * 10 + j, so that a test can tell the rows apart: float32 [4096, 10]."""
    answers = aligned_empty((STORED_ROWS, 10), np.float32)
    answers[...] = np.arange(STORED_ROWS * 10, dtype=np.float32).reshape(STORED_ROWS, 10)
    answers.flags.writeable = False
    return answers


ANSWERS = _answers()


def _first(rows: int) -> np.ndarray:
    return ANSWERS[:rows] if rows <= STORED_ROWS else np.resize(ANSWERS, (rows, 10))


@signature(
    inputs={"x": ("float32", [None, 128])}, outputs={"y": ("float32", [None, 10])}, independent_rows=True
)
def echo(x: np.ndarray) -> np.ndarray:
    """As many rows of a stored array as `x` has; `x` itself is not read."""
    return _first(len(x))


@signature(
    inputs={"x": ("float32", [None, 224, 224, 3])},
    outputs={"y": ("float32", [None, 10])},
    independent_rows=True,
)
def echo_image(x: np.ndarray) -> np.ndarray:
    """As `echo` for rows of 602,112 bytes: large requests, small answers."""
    return _first(len(x))
