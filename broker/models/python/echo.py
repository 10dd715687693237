"""A model that does nothing, for benchmarks and tests: a call to it measures the broker's own cost.

Serve it as `broker.models.python.echo:echo`.
"""

from __future__ import annotations

import numpy as np

from broker.models.aligned import aligned_empty
from broker.models.python.function import signature

STORED_ROWS = 4096


def _answers() -> np.ndarray:
    """Row i, column j holds i * 10 + j, so that a test can distinguish the rows: float32 [4096, 10]."""
    answers = aligned_empty((STORED_ROWS, 10), np.float32)
    answers[...] = np.arange(STORED_ROWS * 10, dtype=np.float32).reshape(STORED_ROWS, 10)
    answers.flags.writeable = False
    return answers


ANSWERS = _answers()


@signature(
    inputs={"x": ("float32", [None, 128])}, outputs={"y": ("float32", [None, 10])}, independent_rows=True
)
def echo(x: np.ndarray) -> np.ndarray:
    """As many rows of a stored array as `x` has; `x` itself is not read."""
    rows = len(x)
    return ANSWERS[:rows] if rows <= STORED_ROWS else np.resize(ANSWERS, (rows, 10))
