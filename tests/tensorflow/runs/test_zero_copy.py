"""TensorFlow reads inputs in place, and outputs are read from its own memory."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from broker.models.aligned import aligned_empty
from tests.arrays import FIXED_SIZE, is_aligned
from worker_client.wire.dtypes import dtype_named


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def ones(rows: int, name: str, offset: int) -> np.ndarray:
    """[rows, 3] ones that start `offset` bytes after a 64-byte boundary."""
    dtype = dtype_named(name)
    memory = aligned_empty((rows * 3 * dtype.itemsize + offset,), np.uint8)
    array = memory[offset:].view(dtype).reshape(rows, 3)
    array[...] = 1
    return array


@pytest.mark.parametrize("name", FIXED_SIZE)
def test_an_aligned_input_is_not_copied(load, name):
    """An Identity op gives back the very address that was fed: TensorFlow's tensor is the caller's memory."""
    x = ones(1000, name, 0)
    (y,) = load("identity").callable(name)(x)
    assert address(y) == address(x)
    assert np.shares_memory(x, y)


@pytest.mark.parametrize("name", FIXED_SIZE)
def test_an_unaligned_input_is_copied(load, name):
    """The control: off the 64-byte boundary the address is another, so the test above can fail."""
    x = ones(1000, name, min(dtype_named(name).itemsize, 8))
    assert not is_aligned(x)
    (y,) = load("identity").callable(name)(x)
    assert address(y) != address(x)
    assert y.tobytes() == x.tobytes()


def test_shared_memory_is_fed_in_place_even_read_only(load):
    """A view of a mapped segment, as a slot gives it, is fed without a copy; it need not be writable."""
    x = np.frombuffer(mmap.mmap(-1, 1 << 16), np.float32, 30, offset=4096).reshape(10, 3)
    x.flags.writeable = False
    (y,) = load("identity").callable("float32")(x)
    assert address(y) == address(x)


def test_a_run_keeps_no_hold_of_its_inputs(load):
    """When a run is over TensorFlow has released the memory that was fed, so that its segment can be unmapped."""
    run = load("mlp").callable("serving_default")
    segment = mmap.mmap(-1, 1 << 16)
    x = np.frombuffer(segment, np.float32, 128).reshape(1, 128)
    run(x)
    del x
    segment.close()


def test_a_run_that_answers_with_its_input_holds_it_until_the_next_run(load):
    """If an output aliases fed memory, TensorFlow releases it at the first run after the output is dropped."""
    run = load("identity").callable("float32")
    segment = mmap.mmap(-1, 1 << 16)
    x = np.frombuffer(segment, np.float32, 30).reshape(10, 3)
    y = run(x)
    del x, y
    with pytest.raises(BufferError):
        segment.close()
    run(aligned_ones((1, 3)))
    segment.close()


def test_a_run_does_not_write_into_its_inputs(load):
    """TensorFlow never reuses fed memory for a result, although the op could work in place."""
    x = ones(1000, "float32", 0)
    double, _ = load("aliases").callable("passthrough")(np.ascontiguousarray(x[:, :2]))
    first, _, _ = load("shapes").callable("several")(
        np.ones(1000, np.int32), np.ones((1000, 2, 2)), zeta := aligned_ones((1000, 2))
    )
    assert (double == 2).all()
    assert (first == 2).all()
    assert (zeta == 1).all()
    assert (x == 1).all()


def aligned_ones(shape: tuple[int, ...]) -> np.ndarray:
    array = aligned_empty(shape, np.float32)
    array[...] = 1
    return array


def test_an_output_is_tensorflows_own_memory(load):
    """A fetched array does not own its data: no copy was made on the way out."""
    (y,) = load("mlp").callable("serving_default")(aligned_ones((2, 128)))
    assert not y.flags.owndata
