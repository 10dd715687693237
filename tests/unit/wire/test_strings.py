"""Strings in a region: what is written is what is read, and nothing that another process writes can do harm."""

from __future__ import annotations

import sys
import threading
from array import array
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_client.wire.dtypes import STRING
from worker_client.wire.layout import WORD, align
from worker_client.wire.strings import _LONG, MAX_STRINGS, Strings, StringView, encode, place_behind
from worker_client.wire.tensors import lay_out, read_table, views

CAPACITY = 4096
INT64 = np.dtype("int64")

shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
texts = st.binary(max_size=40) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
words = st.integers(0, 2**64 - 1) | st.integers(0, 2 * CAPACITY)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of bytes and str objects of any shape."""
    shape = draw(shapes)
    made = np.empty(prod(shape), object)
    made[:] = draw(st.lists(texts, min_size=prod(shape), max_size=prod(shape)))
    return made.reshape(shape)


def as_bytes(values: np.ndarray) -> np.ndarray:
    made = np.empty(values.size, object)
    made[:] = [value.encode() if isinstance(value, str) else value for value in values.ravel()]
    return made.reshape(values.shape)


def written(tensors: list[np.ndarray]) -> tuple[Any, ...]:
    """These in a region, as the other side sees them."""
    inputs = [encode(tensor) if tensor.dtype.kind in "OSUT" else tensor for tensor in tensors]
    layout = lay_out([(tensor.dtype, tensor.shape) for tensor in inputs])
    region = memoryview(bytearray(place_behind(layout.nbytes, inputs)))
    region[: len(layout.table)] = layout.table
    for view, tensor in zip(views(layout.placements, region), inputs):
        view[...] = tensor
    return views(read_table(bytes(region[: len(layout.table)]), len(region)), region)


def read(values: np.ndarray) -> np.ndarray:
    """What becomes of one tensor of strings on its way through a region."""
    (view,) = written([values])
    return view.read()


def same(got: np.ndarray, wanted: np.ndarray) -> None:
    assert got.dtype == wanted.dtype == STRING
    assert got.shape == wanted.shape
    assert got.tolist() == wanted.tolist()


@given(arrays())
def test_what_is_written_is_what_is_read(values: np.ndarray):
    """Strings of any length, zero bytes included, in any shape come back as bytes; str as its UTF-8."""
    same(read(values), as_bytes(values))


@given(st.lists(arrays() | st.just(np.arange(5)), max_size=4))
def test_several_tensors_share_a_region(tensors: list[np.ndarray]):
    """Strings and numbers beside each other: none writes over another's bytes."""
    for got, wanted in zip(written(tensors), tensors, strict=True):
        if wanted.dtype == STRING:
            same(got.read(), as_bytes(wanted))
        else:
            np.testing.assert_array_equal(got, wanted)


@given(arrays().filter(lambda values: values.ndim > 0), st.data())
def test_some_rows(values: np.ndarray, data: st.DataObject):
    """A slice of a view, and a slice of that, read the rows that a slice of the array has."""
    (view,) = written([values])
    bounds = st.integers(0, 5)
    outer, inner = slice(data.draw(bounds), data.draw(bounds)), slice(data.draw(bounds), data.draw(bounds))
    same(view[outer].read(), as_bytes(values)[outer])
    same(view[outer][inner].read(), as_bytes(values)[outer][inner])


@pytest.mark.parametrize("sizes", [[_LONG] * 3, [3 * _LONG, 0, 1], [_LONG - 1] * 5, [0, 10 * _LONG]])
def test_long_strings(sizes: list[int]):
    """Those that are copied one by one come over like those that go together, rows of them, too."""
    values = np.array([bytes([65 + number]) * size for number, size in enumerate(sizes)], object)
    same(read(values), values)
    (view,) = written([values])
    same(view[1:].read(), values[1:])


@pytest.mark.parametrize(
    "values",
    [
        np.array(["a", "bc", "größer", ""]),
        np.array([b"a", b"bc", b"\xff\0x"]),
        np.array([["a", "b"], ["c", "dd"]], object),
        np.array([np.bytes_(b"x"), np.str_("ü"), bytearray(b"y"), "z", b""], object),
        np.array("scalar"),
        np.zeros((0, 3), "U5"),
    ],
    ids=repr,
)
def test_every_form_of_string(values: np.ndarray):
    """Fixed-width bytes and str, objects of either kind and their subclasses, scalars, nothing at all."""
    wanted = np.empty(values.size, object)
    wanted[:] = [v.encode() if isinstance(v, str) else bytes(v) for v in values.ravel().tolist()]
    same(read(values), wanted.reshape(values.shape))


@pytest.mark.skipif(not hasattr(np, "dtypes") or not hasattr(np.dtypes, "StringDType"), reason="numpy 1")
def test_numpy_s_own_strings():
    """numpy 2 has a dtype of strings of variable length."""
    values = np.array(["a", "b" * 100, "ü"], np.dtypes.StringDType())
    assert read(values).tolist() == [b"a", b"b" * 100, "ü".encode()]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([b"a", 7], r"element \[1\] is int, not bytes or str"),
        ([[b"a", b"b"], ["c", None]], r"element \[1, 1\] is NoneType"),
        ([np.ones(3), b""], r"element \[0\] is ndarray"),
        ([memoryview(b"abc"), b""], r"element \[0\] is memoryview"),
    ],
)
def test_what_is_no_string(values: list[object], says: str):
    """The error says which element it is, and what."""
    made = np.empty(np.shape(values)[:2] if isinstance(values[0], list) else len(values), object)
    made[...] = values
    with pytest.raises(TypeError, match=says):
        encode(made)


def test_a_str_without_utf_8():
    """Half of a surrogate pair has no bytes."""
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encode(np.array(["\ud800"], object))


def test_strings_of_other_lengths_have_the_same_table():
    """Strings of other lengths have the same table, so their requests share a prepared request."""
    few, many = [encode(np.array([b"x" * n, b"y"], object)) for n in (0, 1000)]
    tables = {lay_out([(strings.dtype, strings.shape)]).table for strings in (few, many)}
    assert len(tables) == 1
    assert (few.nbytes, many.nbytes) == (1, 1001)


def test_a_view_knows_what_it_takes():
    """The bytes of its strings and a word each, of the rows that it has."""
    (view,) = written([np.array([b"abc", b"", b"de"], object)])
    assert view.nbytes == 3 * WORD + 5
    assert view[1:].nbytes == 2 * WORD + 2
    assert view[3:].nbytes == 0


# -- what a worker can write there -------------------------------------------------------------------------------------


def region_of(values: list[int], fill: bytes = b"") -> memoryview:
    """A region of CAPACITY bytes with these words at its start."""
    return memoryview(bytearray((array("Q", values).tobytes() + fill).ljust(CAPACITY, b"\x5a")))


def check_harmless(region: memoryview, count: int, start: int) -> None:
    """Check that reading raises ValueError, or returns strings whose bytes all come from the region."""
    view = StringView((count,), region, 0, start)
    assert 0 <= view.nbytes <= WORD * count + len(region)
    try:
        strings = view.read().tolist()
    except ValueError:
        return
    assert sum(map(len, strings)) <= len(region) - WORD * (1 + start + count)
    assert b"".join(strings) in bytes(region)


@given(st.lists(words, min_size=2, max_size=20), st.integers(0, 3))
def test_arbitrary_words_are_refused_or_harmless(values: list[int], start: int):
    """Any words at all: decreasing, beyond the region, of more bytes than there are."""
    start = min(start, len(values) - 2)
    check_harmless(region_of(values), len(values) - 1 - start, start)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=12), st.data())
def test_tampered_words_are_refused_or_harmless(items: list[bytes], data: st.DataObject):
    """Real strings of which one to three words were changed."""
    strings = encode(np.array([*items, None], object)[:-1])
    strings.place = align(WORD * (1 + len(items)))
    region = region_of([])
    StringView((len(items),), region, 0)[...] = strings
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        region.cast("Q")[data.draw(st.integers(0, len(items)), "word")] = data.draw(words, "value")
    check_harmless(region, len(items), 0)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([64, 5, 4], "ends before it begins"),
        ([64, 2**64 - 1, 4], "ends before it begins"),
        ([64, 0, CAPACITY - 63], "do not lie behind their words and inside a region of 4096 bytes"),
        ([64, 0, 2**63], "do not lie behind"),
        ([2**64 - 1, 0, 1], "do not lie behind"),
        ([0, 0, 1], "do not lie behind"),
        ([23, 0, 1], "do not lie behind"),
        ([CAPACITY + 1, 0, 0], "do not lie behind"),
    ],
)
def test_why_strings_are_refused(values: list[int], why: str):
    """Two strings whose words break a rule."""
    with pytest.raises(ValueError, match=why):
        StringView((2,), region_of(values), 0).read()


def test_some_rows_are_checked_as_strictly():
    """Their strings must lie behind all words, those of the rows before them included."""
    view = StringView((2,), region_of([23, 0, 1]), 0)
    with pytest.raises(ValueError, match="do not lie behind"):
        view[1:].read()


def test_the_last_byte_of_a_region_can_be_used():
    """Strings may end where their region does, and empty ones lie there."""
    region = region_of([CAPACITY - 2, 1, 2, 2])
    assert StringView((3,), region, 0).read().tolist() == [b"\x5a", b"\x5a", b""]


def test_more_strings_than_there_may_be():
    """A count is refused by the table, on both sides, whatever the region holds."""
    with pytest.raises(ValueError, match="the limit is 4,194,304 strings"):
        lay_out([(STRING, (MAX_STRINGS + 1,))])
    table = array("Q", [1, 16, 1, 64, MAX_STRINGS + 1]).tobytes()
    with pytest.raises(ValueError, match="the limit is 4,194,304 strings"):
        read_table(table, 1 << 40)
    with pytest.raises(ValueError, match="leaves a region"):
        read_table(array("Q", [1, 16, 1, 64, 8]).tobytes(), 64 + 8 * WORD)
    read_table(array("Q", [1, 16, 1, 64, 8]).tobytes(), 64 + 9 * WORD)


def test_no_view_is_an_array_of_objects():
    """numpy would take the bytes of a region for addresses of objects, and follow them."""
    table = array("Q", [1, 16, 1, 64, 3]).tobytes()
    (view,) = views(read_table(table, CAPACITY), memoryview(bytearray(CAPACITY)))
    assert isinstance(view, StringView)


def test_words_that_change_while_they_are_read():
    """Another process writes at any moment: what was checked is what is used, as it was copied before."""
    count = 200
    place = align(WORD * (1 + count))
    right = [place, *range(1, count + 1)]
    wrong = [CAPACITY - 1, *[2**63 + number for number in range(count)]]
    region = region_of(right)
    shared, stop = region.cast("Q"), threading.Event()

    def meddle() -> None:
        while not stop.is_set():
            for values in (wrong, right):
                for number, value in enumerate(values):
                    shared[number] = value

    before = sys.getswitchinterval()
    meddler = threading.Thread(target=meddle)
    sys.setswitchinterval(1e-6)
    meddler.start()
    refused = 0
    try:
        for _ in range(500):
            try:
                strings = StringView((count,), region, 0).read()
            except ValueError:
                refused += 1
            else:
                assert sum(map(len, strings)) <= CAPACITY - place
    finally:
        stop.set()
        meddler.join()
        sys.setswitchinterval(before)
    assert refused  # so it was changed while it was read


def test_strings_are_measured_once():
    """Encoding notes every string's end."""
    strings = encode(np.array([b"ab", b"", b"c"], object))
    assert isinstance(strings, Strings)
    assert (strings.ends, strings.nbytes, strings.shape) == ([2, 2, 3], 3, (3,))
    assert encode(np.zeros((2, 0), object)).nbytes == 0
