"""The tensor table at the head of a region, and the numpy views that it describes. In an output region it follows the
words that say which request it answers (OUTPUT_HEAD).

    word 0      1       2      3        4 ...            (next tensor)
    +-------+-------+-------+--------+----------------+-------+---
    | count | dtype | rank  | offset | dim 0 .. rank-1| dtype | ...
    +-------+-------+-------+--------+----------------+-------+---

`offset` is in bytes from the start of the region, a multiple of 64, so that TensorFlow can use the tensor in place. A
tensor of strings has words there, and its bytes after all tensors (`strings.py`).

Requests repeat their shapes, so both sides build a layout or its views once and then compare the table's bytes only.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from worker_client.wire.dtypes import STRING, code_of, dtype_of, name_of
from worker_client.wire.layout import LINE, MAX_REGION, WORD, align
from worker_client.wire.strings import MAX_STRINGS, StringView

MAX_RANK: Final = 8
MAX_TENSORS: Final = 1024
MAX_TABLE: Final = WORD * (1 + MAX_TENSORS * (3 + MAX_RANK))


class Placement(NamedTuple):
    """The dtype, shape and position of one tensor in a region."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int


class TensorLayout:
    """The tensors of one region: their table as it is written, their places, and the bytes they need in total, without
    the bytes of strings, which begin after them."""

    __slots__ = ("nbytes", "placements", "table")

    def __init__(self, table: bytes, placements: tuple[Placement, ...], nbytes: int) -> None:
        self.table = table
        self.placements = placements
        self.nbytes = nbytes


def lay_out(tensors: Iterable[tuple[np.dtype, tuple[int, ...]]], head: int = 0) -> TensorLayout:
    """Place tensors of these dtypes and shapes one after the other, each at the start of a line; the table is at
    `head`.

    Raises TypeError for a dtype that has no code and ValueError for a rank above MAX_RANK, a tensor above MAX_REGION
    bytes or MAX_STRINGS strings, or too many tensors.
    """
    items = [(dtype, tuple(shape)) for dtype, shape in tensors]
    if len(items) > MAX_TENSORS:
        raise ValueError(f"{len(items)} tensors in one request; the limit is {MAX_TENSORS}")
    end = align(head + WORD * (1 + sum(3 + len(shape) for _, shape in items)))
    words = [len(items)]
    placements = []
    for dtype, shape in items:
        if len(shape) > MAX_RANK:
            raise ValueError(f"a tensor of rank {len(shape)}; the limit is {MAX_RANK}")
        if dtype.itemsize * prod(max(size, 1) for size in shape) > MAX_REGION:
            raise ValueError(f"a tensor {name_of(dtype)}{list(shape)}; the limit is {MAX_REGION} bytes")
        if dtype == STRING and prod(shape) > MAX_STRINGS:
            raise ValueError(f"a tensor string{list(shape)}; the limit is {MAX_STRINGS:,} strings")
        words += (code_of(dtype), len(shape), end, *shape)
        placements.append(Placement(dtype, shape, end))
        end = align(end + fixed_bytes(dtype, shape))
    return TensorLayout(array("Q", words).tobytes(), tuple(placements), end)


def fixed_bytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """The bytes of a tensor at its offset: its elements, or for strings one word more than there are strings."""
    return WORD * (1 + prod(shape)) if dtype == STRING else dtype.itemsize * prod(shape)


def read_table(table: bytes, capacity: int, head: int = 0) -> tuple[Placement, ...]:
    """The placements in a table from the other side, each checked to be after the table, which is at `head`, and within
    `capacity` bytes.

    `table` must be a private copy. Raises ValueError for a table that is malformed or points outside.
    Tensors of a hostile table may overlap: they are only ever read.
    """
    if len(table) % WORD or not WORD <= len(table) <= MAX_TABLE:
        raise ValueError(f"tensor table of {len(table)} bytes")
    words = memoryview(table).cast("Q").tolist()
    count, at = words[0], 1
    placements = []
    for _ in range(min(count, MAX_TENSORS)):
        placement, at = _read_placement(words, at)
        _check_bounds(placement, head + len(table), capacity)
        placements.append(placement)
    if len(placements) != count or at != len(words):
        raise ValueError(f"tensor table announces {count} tensors in {len(table)} bytes")
    return tuple(placements)


def _read_placement(words: Sequence[int], at: int) -> tuple[Placement, int]:
    if at + 3 > len(words):
        raise ValueError("tensor table ends within a tensor")
    code, rank, offset = words[at : at + 3]
    end = at + 3 + rank
    if rank > MAX_RANK or end > len(words):
        raise ValueError(f"tensor table gives rank {rank}")
    try:
        dtype = dtype_of(code)
    except TypeError as error:
        raise ValueError(str(error)) from None
    return Placement(dtype, tuple(words[at + 3 : end]), offset), end


def _check_bounds(placement: Placement, table_end: int, capacity: int) -> None:
    dtype, shape, offset = placement
    if offset % LINE or offset < table_end:
        raise ValueError(f"tensor at offset {offset} is not at a line start after the table")
    nbytes = dtype.itemsize * prod(max(n, 1) for n in shape)
    if nbytes > MAX_REGION or offset + fixed_bytes(dtype, shape) > capacity:
        raise ValueError(
            f"tensor {name_of(dtype)}{list(shape)} at offset {offset} leaves a region of {capacity} bytes"
        )
    if dtype == STRING and prod(shape) > MAX_STRINGS:
        raise ValueError(f"tensor string{list(shape)}; the limit is {MAX_STRINGS:,} strings")


def views(placements: Iterable[Placement], region: memoryview) -> tuple[Any, ...]:
    """Views of the tensors in a region, without a copy: arrays, or a StringView for strings. They keep the mapping
    alive.

    Never an array of dtype object: numpy would use the bytes that another process wrote as addresses of objects.
    """
    return tuple(
        StringView(shape, region, offset) if dtype == STRING else np.ndarray(shape, dtype, region, offset)
        for dtype, shape, offset in placements
    )
