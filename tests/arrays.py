"""Checks on arrays that tests of several folders share."""

from __future__ import annotations

import numpy as np

from broker.models.aligned import ALIGNMENT
from worker_client.wire.dtypes import SUPPORTED

FIXED_SIZE = tuple(name for name in SUPPORTED if name != "string")
"""The types whose elements all have one size."""


def is_aligned(array: np.ndarray) -> bool:
    """Whether TensorFlow can use the array without a copy."""
    return array.ctypes.data % ALIGNMENT == 0
