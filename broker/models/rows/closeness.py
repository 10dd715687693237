"""Decides by dtype whether two answers are equal: another number of rows may use other kernels, which round
differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Outputs: TypeAlias = Sequence[np.ndarray]

_EPSILON = {
    "float16": 1e-3,
    "bfloat16": 8e-3,
    "float32": 1.2e-7,
    "complex64": 1.2e-7,
    "float64": 2.3e-16,
    "complex128": 2.3e-16,
}
_LOOSE = {
    "float16": 1e-2,
    "bfloat16": 5e-2,
    "float32": 1e-4,
    "complex64": 1e-4,
    "float64": 1e-5,  # a float64 output is often computed in float32
    "complex128": 1e-5,
}
_ULPS = 8


def same_rows(mine: np.ndarray, other: np.ndarray, *, exact: bool = False) -> np.ndarray:
    """For each row of two arrays of the same shape, whether it is equal. NaN equals NaN.

    Floats may differ by a part of the row's largest number; with `exact`, for runs of the same size, by the last bits.
    """
    count = len(mine)
    if not mine.size:
        return np.ones(count, bool)
    if mine.dtype.name not in _EPSILON:
        return np.asarray((mine == other).reshape(count, -1).all(axis=1), bool)
    wide = np.result_type(mine.dtype, np.float32) if mine.dtype.kind in "fc" else np.dtype(np.float32)
    name = mine.dtype.name
    a, b = (array.astype(wide).reshape(count, -1) for array in (mine, other))
    with np.errstate(all="ignore"):
        equal = (a == b) | (np.isnan(a) & np.isnan(b))
        if equal.all():
            return np.ones(count, bool)
        sizes = np.where(np.isfinite(b), np.abs(b), 0)
        largest = sizes.max(axis=1, keepdims=True)
        if exact:
            allowed = _ULPS * _EPSILON[name] * (sizes + 0.01 * largest)
        else:
            allowed = _LOOSE[name] * largest
        return np.asarray((equal | (np.abs(a - b) <= allowed)).all(axis=1), bool)


def difference(mine: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two arrays of the same shape; 1 if they are not numbers, infinite for NaN on one
    side."""
    if not mine.size:
        return 0.0
    if mine.dtype.hasobject or mine.dtype == bool:
        return float((mine != other).any())
    wide = np.complex128 if mine.dtype.kind == "c" else np.float64
    with np.errstate(all="ignore"):
        a, b = mine.astype(wide), other.astype(wide)
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b))
    return float(np.nan_to_num(apart, nan=np.inf).max())


def same_shapes(mine: Sequence[np.ndarray], other: Sequence[np.ndarray], rows: int) -> bool:
    """Whether all outputs have `rows` rows, with the same row shapes and dtypes as the others."""
    return len(mine) == len(other) and all(
        a.ndim > 0 and b.ndim > 0 and len(a) == rows and a.shape[1:] == b.shape[1:] and a.dtype == b.dtype
        for a, b in zip(mine, other)
    )


def same(mine: np.ndarray, other: np.ndarray) -> bool:
    return mine.shape == other.shape and bool(same_rows(mine, other).all())


def exactly_same(mine: np.ndarray, other: np.ndarray) -> bool:
    return mine.shape == other.shape and bool(same_rows(mine, other, exact=True).all())


def same_outputs(mine: Outputs, other: Outputs) -> bool:
    return all(same(a, b) for a, b in zip(mine, other))
