"""Strings of variable length in a region: where each ends, and their bytes after all tensors of fixed size.

    at the tensor's offset, words                    at `place`, bytes
    +-------+-------+-------+-----+---------+        +----------+----------+-----+------------+
    | place | end 0 | end 1 | ... | end n-1 |  ...   | string 0 | string 1 | ... | string n-1 |
    +-------+-------+-------+-----+---------+        +----------+----------+-----+------------+

This is Apache Arrow's layout for binary arrays of variable size, except that the first offset, which is always 0 there,
holds `place`: it counts from the start of the region, and the ends count from `place`. So the tensor table says how
many strings there are, but not how long they are: requests that differ only in the lengths have the same table, and the
same prepared request.

    an array --encode--> Strings --StringView[...] =--> region --StringView.read--> an array of bytes objects

The bytes are copied once each way (short ones twice, which is faster). The other side may change the region at any
moment, so the reader copies the words before it checks them, and makes the strings from the checked copy.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from math import prod
from types import EllipsisType
from typing import Any, Final

import numpy as np

from worker_client.wire.dtypes import STRING
from worker_client.wire.layout import WORD

MAX_STRINGS: Final = 1 << 22
"""Maximum number of strings in one tensor. A string costs its reader some fifty bytes besides its own, which no budget
of a channel counts."""

_LONG: Final = 4096
"""Average length in bytes from which each string is copied separately; shorter ones are copied together through one
buffer."""

Shape = tuple[int, ...]


class Strings:
    """Encoded strings to be written into a region; they may be assigned to a StringView of the same shape."""

    __slots__ = ("ends", "items", "nbytes", "place", "shape")

    dtype = STRING

    def __init__(self, items: list[bytes], shape: Shape) -> None:
        self.items = items
        self.shape = shape
        self.ends = list(accumulate(map(len, items)))
        self.nbytes = self.ends[-1] if items else 0
        self.place = 0  # in the region, set by `place_behind`


def encode(values: np.ndarray) -> Strings:
    """Encode the elements of an array of bytes or str objects, of fixed-width strings (`S`, whose trailing zero bytes
    numpy drops, and `U`) or of numpy's StringDType; str is encoded as UTF-8.

    Raises TypeError, which names the element that is neither bytes nor str; ValueError for a str without UTF-8 form.
    """
    items: list[Any] = values.ravel().tolist()
    kinds = set(map(type, items))
    if kinds - {bytes}:
        items = list(map(str.encode, items)) if kinds == {str} else _as_bytes(items, values.shape)
    return Strings(items, values.shape)


def _as_bytes(items: Sequence[Any], shape: Shape) -> list[bytes]:
    made = []
    for number, item in enumerate(items):
        if isinstance(item, str):
            made.append(str.encode(item))
        elif isinstance(item, (bytes, bytearray)):
            made.append(bytes(item))
        else:
            where = [int(index) for index in np.unravel_index(number, shape)]
            raise TypeError(f"element {where} is {type(item).__name__}, not bytes or str")
    return made


def place_behind(end: int, tensors: Iterable[Any]) -> int:
    """Give each Strings among `tensors` its place, one after the other from `end`, where the tensors of fixed size end.

    Returns the bytes that the region must have.
    """
    for tensor in tensors:
        if isinstance(tensor, Strings):
            tensor.place = end
            end += tensor.nbytes
    return end


class StringView:
    """A tensor of strings in a region. No array can be a view of strings, so this object takes its place: it is
    assigned to as a whole, and read into a new array."""

    __slots__ = ("_at", "_count", "_region", "_start", "shape")

    dtype = STRING
    itemsize = WORD

    def __init__(self, shape: Shape, region: memoryview, offset: int, start: int = 0) -> None:
        """`start` is the number of strings of the tensor before the first string of this view."""
        self.shape = shape
        self._region = region
        self._at = offset
        self._start = start
        self._count = prod(shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that it takes in the region, including its words. This is only a hint if the other side writes the
        region, but never more than the region has."""
        words = self._region[self._at : self._at + WORD * (1 + self._start + self._count)].cast("Q")
        before = words[self._start] if self._start else 0
        return WORD * self._count + min(max(0, words[-1] - before) if self._count else 0, len(self._region))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> StringView:
        """A view of some of its rows."""
        start, stop, _ = rows.indices(self.shape[0])
        inner = self.shape[1:]
        shape = (max(0, stop - start), *inner)
        return StringView(shape, self._region, self._at, self._start + start * prod(inner))

    def __setitem__(self, key: EllipsisType, strings: Strings) -> None:
        """Write as many strings as the view has; they must have their place."""
        region, items, place = self._region, strings.items, strings.place
        words = array("Q", (place, *strings.ends)).tobytes()
        region[self._at : self._at + len(words)] = words
        if strings.nbytes < _LONG * len(items):
            region[place : place + strings.nbytes] = b"".join(items)
        else:
            at = place
            for item in items:
                region[at : at + len(item)] = item
                at += len(item)

    def read(self) -> np.ndarray:
        """A new array of bytes objects, in private memory.

        Raises ValueError if the words point outside the region, into what comes before them, or backwards.
        """
        region, count, first = self._region, self._count, self._start
        strings = np.empty(count, object)
        if count:
            strings[:] = _cut(region, *self._bounds(region, count, first))
        return strings.reshape(self.shape)

    def _bounds(self, region: memoryview, count: int, first: int) -> tuple[int, list[int]]:
        """The place, and the bounds of the strings after it: private, checked copies."""
        words = region[self._at : self._at + WORD * (1 + first + count)].cast("Q")
        place = words[0]
        bounds = words[first:].tolist()
        if not first:
            bounds[0] = 0
        if place < self._at + WORD * (1 + first + count) or place + bounds[-1] > len(region):
            raise ValueError(
                f"strings of {bounds[-1]} bytes at {place} do not lie behind their words and inside a region of "
                f"{len(region)} bytes"
            )
        if bounds != sorted(bounds):
            raise ValueError("a string ends before it begins")
        return place, bounds

    def copy(self) -> np.ndarray:
        """Like `read`, under the name that arrays use."""
        return self.read()


def _cut(region: memoryview, place: int, bounds: Sequence[int]) -> list[bytes]:
    start, end = bounds[0], bounds[-1]
    if end - start >= _LONG * len(bounds):
        return [bytes(region[place + begin : place + stop]) for begin, stop in pairwise(bounds)]
    data = bytes(region[place + start : place + end])
    if start:
        bounds = [bound - start for bound in bounds]
    return [data[begin:stop] for begin, stop in pairwise(bounds)]


def blank(shape: Shape) -> np.ndarray:
    """An array of empty strings."""
    return np.full(shape, b"", object)
