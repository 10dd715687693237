"""The model that does nothing, and the memory they and the batches use."""

from __future__ import annotations

import numpy as np
import pytest

from broker.models.aligned import ALIGNMENT, aligned_empty, aligned_zeros
from broker.models.lifecycle.repository import load
from broker.models.python import echo
from broker.models.spec import ModelSpec
from tests.arrays import is_aligned


def test_echo_answers_rows_that_can_be_told_apart():
    """Row i of the answer is 10 i to 10 i + 9, whatever was asked."""
    run = load([ModelSpec("m", "broker.models.python.echo:echo")]).entry("m").run
    (y,) = run(np.empty((3, 128), np.float32))
    assert y.dtype == np.float32
    assert y.tolist() == np.arange(30).reshape(3, 10).tolist()
    assert np.shares_memory(y, echo.ANSWERS)


def test_echo_answers_more_rows_than_it_stores():
    """Beyond its store it repeats itself."""
    y = echo.echo(np.empty((echo.STORED_ROWS + 2, 128), np.float32))
    assert y.shape == (echo.STORED_ROWS + 2, 10)
    assert y[-1].tolist() == echo.ANSWERS[1].tolist()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (0, 7), (1000, 3)])
@pytest.mark.parametrize("dtype", ["bool", "float32", "complex128"])
def test_aligned_arrays(shape, dtype):
    """They start on a 64-byte boundary, can be written, and are as numpy would make them."""
    for array in (aligned_empty(shape, dtype), aligned_zeros(shape, dtype)):
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
        if array.size:  # numpy gives an empty array any address
            assert array.ctypes.data % ALIGNMENT == 0
            assert is_aligned(array)
        assert array.flags.c_contiguous
        assert array.flags.writeable
    assert not aligned_zeros(shape, dtype).any()
