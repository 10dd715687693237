"""numpy arrays that start on a 64-byte boundary: the only arrays that TensorFlow takes without a copy."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64
"""bytes; TensorFlow's EIGEN_MAX_ALIGN_BYTES. TensorFlow copies an array that starts anywhere else when it is fed."""


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """A C-contiguous array with uninitialised contents whose first byte is on a 64-byte boundary."""
    kind = np.dtype(dtype)
    if kind.hasobject:
        return np.empty(shape, kind)  # TensorFlow copies strings wherever they are
    size = math.prod(shape) * kind.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(kind).reshape(shape)


def aligned_zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """As `aligned_empty`, filled with zeros (False for bool, empty strings for objects)."""
    array = aligned_empty(shape, dtype)
    array.fill(b"" if array.dtype.hasobject else 0)
    return array
