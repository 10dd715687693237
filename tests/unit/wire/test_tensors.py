"""The tensor table: what is laid out is what the other side reads, and nothing else can be read."""

from __future__ import annotations

import gc
import mmap
from array import array
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.arrays import FIXED_SIZE
from worker_client.wire.dtypes import code_of, dtype_named
from worker_client.wire.layout import LINE, MAX_REGION, WORD
from worker_client.wire.tensors import (
    MAX_RANK,
    MAX_TABLE,
    MAX_TENSORS,
    lay_out,
    read_table,
    views,
)

FLOAT32 = np.dtype("float32")
CAPACITY = 1 << 16

dtypes = st.sampled_from(FIXED_SIZE).map(dtype_named)
shapes = st.lists(st.integers(0, 5), max_size=MAX_RANK).map(tuple).filter(lambda shape: prod(shape) <= 1000)
tensor_lists = st.lists(st.tuples(dtypes, shapes), max_size=6)
words = (
    st.integers(0, 2**64 - 1) | st.integers(0, 40) | st.integers(0, 2 * CAPACITY // LINE).map(LINE.__mul__)
)


def table_of(*values: int) -> bytes:
    return array("Q", values).tobytes()


def address(view: np.ndarray) -> int:
    return int(view.ctypes.data)


def check_inside(table: bytes, capacity: int) -> None:
    """Reading `table` raises ValueError, or gives views that lie behind the table and inside the capacity."""
    try:
        placements = read_table(table, capacity)
    except ValueError:
        return
    region = np.zeros(capacity, np.uint8)
    for view in views(placements, memoryview(region)):
        start = address(view) - address(region)
        assert len(table) <= start
        assert start + view.nbytes <= capacity or not view.size


@given(tensor_lists)
def test_what_is_laid_out_is_what_is_read(tensors: list[tuple[np.dtype, tuple[int, ...]]]):
    """Dtypes, shapes (rank 0 to 8, empty dimensions) and places come out of the table as they went in."""
    layout = lay_out(tensors)
    placements = read_table(layout.table, layout.nbytes)
    assert placements == layout.placements
    assert [(placement.dtype, placement.shape) for placement in placements] == tensors


@given(tensor_lists)
def test_every_tensor_stands_on_lines_of_its_own(tensors: list[tuple[np.dtype, tuple[int, ...]]]):
    """Offsets are multiples of 64, behind the table, in order, and no tensor reaches into the next."""
    layout = lay_out(tensors)
    end = len(layout.table)
    for dtype, shape, offset in layout.placements:
        assert offset % LINE == 0
        assert offset >= end
        end = offset + dtype.itemsize * prod(shape)
    assert end <= layout.nbytes
    assert layout.nbytes % LINE == 0


@given(tensor_lists)
def test_views_in_a_mapping_are_aligned(tensors: list[tuple[np.dtype, tuple[int, ...]]]):
    """In mapped memory every view's address is a multiple of 64: TensorFlow takes the tensor where it is."""
    layout = lay_out(tensors)
    with mmap.mmap(-1, layout.nbytes) as memory:
        region = memoryview(memory)
        arrays = views(layout.placements, region)
        assert [(a.dtype, a.shape) for a in arrays] == tensors
        assert all(address(a) % LINE == 0 for a in arrays if a.size)
        del arrays
        region.release()


@given(tensor_lists, st.integers(0, 2**32 - 1))
def test_values_written_on_one_side_are_read_on_the_other(
    tensors: list[tuple[np.dtype, tuple[int, ...]]], seed: int
):
    """Each tensor is read with the bytes that were written through its view: none writes over another."""
    generator = np.random.default_rng(seed)
    layout = lay_out(tensors)
    region = memoryview(bytearray(layout.nbytes))
    region[: len(layout.table)] = layout.table
    values = [generator.bytes(dtype.itemsize * prod(shape)) for dtype, shape in tensors]
    for view, value in zip(views(layout.placements, region), values):
        view[...] = np.frombuffer(value, view.dtype).reshape(view.shape)
    table = bytes(region[: len(layout.table)])
    read = views(read_table(table, len(region)), region)
    assert [view.tobytes() for view in read] == values


@given(st.binary(max_size=400), st.integers(0, CAPACITY))
def test_arbitrary_bytes_are_refused_or_harmless(table: bytes, capacity: int):
    """Any bytes at all are refused with ValueError or give views inside the capacity, never anything else."""
    check_inside(table, capacity)


@given(st.lists(words, max_size=40), st.integers(0, CAPACITY))
def test_arbitrary_words_are_refused_or_harmless(values: list[int], capacity: int):
    """So are any words, large ones and those near the limits included."""
    check_inside(table_of(*values), capacity)


@given(tensor_lists.filter(bool), st.data())
def test_a_tampered_table_is_refused_or_harmless(
    tensors: list[tuple[np.dtype, tuple[int, ...]]], data: st.DataObject
):
    """A real table of which words were changed, cut off or added is refused or stays inside the capacity."""
    layout = lay_out(tensors)
    values = memoryview(layout.table).cast("Q").tolist()
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        values[data.draw(st.integers(0, len(values) - 1), "index")] = data.draw(words, "value")
    values = values[: data.draw(st.integers(0, len(values)), "kept")] + data.draw(st.lists(words, max_size=2))
    check_inside(table_of(*values), layout.nbytes)


@given(tensor_lists.filter(bool))
def test_a_smaller_region_refuses_the_table(tensors: list[tuple[np.dtype, tuple[int, ...]]]):
    """A table is refused by every region that ends before its last byte of data."""
    layout = lay_out(tensors)
    end = max(p.offset + p.dtype.itemsize * prod(p.shape) for p in layout.placements)
    read_table(layout.table, end)
    with pytest.raises(ValueError, match=f"leaves a region of {end - 1} bytes"):
        read_table(layout.table, end - 1)


F32 = code_of(FLOAT32)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (b"", "tensor table of 0 bytes"),
        (b"\0" * 9, "tensor table of 9 bytes"),
        (bytes(MAX_TABLE + WORD), f"tensor table of {MAX_TABLE + WORD} bytes"),
        (table_of(1), "ends within a tensor"),
        (table_of(1, F32, 0), "ends within a tensor"),
        (table_of(0, 0), "announces 0 tensors"),
        (table_of(2, F32, 0, 64), "ends within a tensor"),
        (table_of(2**64 - 1, F32, 0, 64), "ends within a tensor"),
        (table_of(1, F32, 9, 128, *[1] * 9), "gives rank 9"),
        (table_of(1, F32, 2**64 - 1, 64), f"gives rank {2**64 - 1}"),
        (table_of(1, F32, 2, 64, 1), "gives rank 2"),
        (table_of(1, 0, 0, 64), "no dtype has the wire code 0"),
        (table_of(1, F32, 0, 0), "at offset 0 is not at a line start after the table"),
        (table_of(1, F32, 0, 65), "at offset 65 is not at a line start"),
        (table_of(1, F32, 0, CAPACITY), "leaves a region"),
        (table_of(1, F32, 0, 2**64 - LINE), "leaves a region"),
        (table_of(1, F32, 1, 64, 2**62), "leaves a region"),
        (table_of(1, F32, 2, 64, 2**32, 2**32), "leaves a region"),
        (table_of(1, F32, 2, 64, 0, 2**63), "leaves a region"),
    ],
)
def test_why_a_table_is_refused(table: bytes, why: str):
    """The error says which of the rules of the table is broken."""
    with pytest.raises(ValueError, match=why):
        read_table(table, CAPACITY)


def test_an_empty_tensor_at_the_end_of_its_region():
    """A tensor without elements may begin where the region ends: it has no byte outside."""
    (placement,) = read_table(table_of(1, F32, 1, 64, 0), 64)
    (view,) = views([placement], memoryview(bytearray(64)))
    assert view.shape == (0,)


def test_as_many_tensors_as_there_may_be():
    """MAX_TENSORS tensors of the highest rank make a table of MAX_TABLE bytes, which is read."""
    layout = lay_out([(FLOAT32, (1,) * MAX_RANK)] * MAX_TENSORS)
    assert len(layout.table) == MAX_TABLE
    assert read_table(layout.table, layout.nbytes) == layout.placements


def test_one_tensor_too_many():
    """More than MAX_TENSORS are refused on either side, by the side that reads even where the table is short."""
    with pytest.raises(
        ValueError, match=f"{MAX_TENSORS + 1} tensors in one request; the limit is {MAX_TENSORS}"
    ):
        lay_out([(FLOAT32, ())] * (MAX_TENSORS + 1))
    offset = (MAX_TABLE + LINE) // LINE * LINE
    table = table_of(MAX_TENSORS + 1, *(F32, 0, offset) * (MAX_TENSORS + 1))
    with pytest.raises(ValueError, match=f"announces {MAX_TENSORS + 1} tensors"):
        read_table(table, 2 * offset)


def test_one_dimension_too_many():
    """A rank above MAX_RANK is refused where the table is written."""
    with pytest.raises(ValueError, match=f"rank {MAX_RANK + 1}; the limit is {MAX_RANK}"):
        lay_out([(FLOAT32, (1,) * (MAX_RANK + 1))])


def test_a_foreign_dtype_is_not_laid_out():
    """A dtype without a code raises TypeError where the table is written."""
    with pytest.raises(TypeError, match="dtype 'datetime64.s.' cannot be sent"):
        lay_out([(np.dtype("M8[s]"), (1,))])


def test_the_largest_region_is_the_limit_of_a_tensor():
    """A tensor of more than MAX_REGION bytes is refused whatever capacity is claimed."""
    placement = read_table(table_of(1, code_of(np.dtype("int8")), 1, 64, MAX_REGION), 2 * MAX_REGION)
    assert placement[0].shape == (MAX_REGION,)
    with pytest.raises(ValueError, match="leaves a region"):
        read_table(table_of(1, code_of(np.dtype("int8")), 1, 64, MAX_REGION + 1), 4 * MAX_REGION)


def test_views_keep_the_mapping():
    """A view is still readable when everything else has let go of its mapping."""
    memory = mmap.mmap(-1, 4096)
    memory[64:68] = np.float32(1.5).tobytes()
    (view,) = views(lay_out([(FLOAT32, ())]).placements, memoryview(memory))
    del memory
    gc.collect()
    assert view == 1.5
