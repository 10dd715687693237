"""Converts between TensorFlow's arrays and the arrays of workers where they differ.

Quantised integers, qint8 to qint32, are sent as plain integers. TensorFlow answers with plain integers (int8 for
qint8), but expects feeds of a dtype with one field, `tf.qint8.as_numpy_dtype`. The bits are the same, so a view is
enough.

TensorFlow returns a string without dimensions as a bytes object; it is sent as an array like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from broker.models.model import Run


def plain_name(dtype: Any) -> str:
    """The name of a `tf.DType`; for a quantised one, the name of its integer: int8 for qint8, uint8 for quint8."""
    name: str = dtype.base_dtype.name
    return name.removeprefix("q") if dtype.is_quantized else name


def fed_quantised(run: Run, dtypes: Sequence[Any]) -> Run:
    """`run` for arrays of plain integers, where feeds of these `tf.DType`s are quantised."""
    if not any(dtype.is_quantized for dtype in dtypes):
        return run
    seen_as = [np.dtype(dtype.as_numpy_dtype) if dtype.is_quantized else None for dtype in dtypes]

    def view_and_run(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        return run(*[array if kind is None else array.view(kind) for kind, array in zip(seen_as, arrays)])

    return view_and_run


def scalar_strings(run: Run, tensors: Sequence[Any]) -> Run:
    """`run` with only arrays in its answer, also for fetched tensors that are strings."""
    if not any(tensor.dtype.name == "string" and not tensor.shape.rank for tensor in tensors):
        return run

    def run_for_arrays(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        answered: Sequence[Any] = run(*arrays)
        return [np.array(value, object) if isinstance(value, bytes) else value for value in answered]

    return run_for_arrays
