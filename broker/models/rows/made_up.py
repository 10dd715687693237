"""Makes up requests: rows for every input of a signature, with values that cover the usual range of its dtype.

A model accepts only some values: ids beyond its vocabulary raise, and so do texts that are not numbers. So each input
has a list of families of values, of which the accepted ones are used.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from broker.models.aligned import aligned_empty
from broker.models.examples import Feeds
from worker_client.wire.signature import Signature, TensorSpec

LENGTHS = (8, 64, 1, 16, 3, 40, 224)
"""Sizes to try for free dimensions other than the rows."""

_SMALL_FLOATS, _SMALL_RANGES = 10, 7
"""The number of first families with small values, from which no model can make an answer of many megabytes."""
MOST = 1000
"""The largest integer. A model may use any integer as a size without declaring it: it repeats a word that often, or
makes a mask of that length. TensorFlow truncates a larger one to 32 bits and allocates up to 48 GiB for that many
strings."""

Shape = tuple[int, ...]
Rng = np.random.Generator
Family = Callable[[Rng, Shape], np.ndarray]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make up a request: a family for each input, and the size of free inner dimensions; or an example, whose
    rows are mixed."""

    families: tuple[int, ...]
    length: int
    example: int | None = None


def families_of(spec: TensorSpec, signature: Signature) -> Sequence[Family]:
    """The families for an input, the most common first.

    If the inputs of a signature may set the size of its outputs, numbers are even smaller.
    """
    found = _all_of(spec)
    if not _sizes_by_content(signature):
        return found
    if found is _FLOATS:
        return (*found[:_SMALL_FLOATS], found[-1])
    return found[:_SMALL_RANGES] if _counts(spec) else found


def _counts(spec: TensorSpec) -> bool:
    return spec.dtype.kind in "iu" or spec.dtype.name.startswith(("int", "uint", "qint", "quint"))


def _sizes_by_content(signature: Signature) -> bool:
    """Whether the dimensions of an output other than the rows, or the length of its strings, are known only after a
    run."""
    return any(
        spec.dtype.hasobject or spec.shape is None or None in spec.shape[1:] for spec in signature.outputs
    )


def _all_of(spec: TensorSpec) -> Sequence[Family]:
    if spec.dtype.hasobject:
        return _TEXTS
    if spec.dtype == bool:
        return (_bools(0.5), _bools(0.1), _bools(0.9))
    if _counts(spec):
        return _integers(spec.dtype)
    return _FLOATS


def draw(signature: Signature, choice: Recipe, rows: int, rng: Rng, examples: Sequence[Feeds] = ()) -> Feeds:
    """Draw `rows` rows for each input."""
    if choice.example is not None:
        return _mixed_example(examples[choice.example], rows, rng)
    made = []
    for spec, number in zip(signature.inputs, choice.families):
        inner = [choice.length if size is None else size for size in (spec.shape or (None,))[1:]]
        family = families_of(spec, signature)[number]
        values = family(rng, (rows, *inner))
        if spec.dtype.kind == "c":
            values = values + 1j * family(rng, (rows, *inner))
        made.append(aligned_as(values, spec.dtype))
    return tuple(made)


def aligned_as(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    array = aligned_empty(values.shape, dtype)
    with np.errstate(all="ignore"):
        array[...] = values.astype(dtype)
    return array


def _mixed_example(example: Feeds, rows: int, rng: Rng) -> Feeds:
    """Rows of the example in random order; numbers in repeated rows are changed slightly."""
    order = np.resize(rng.permutation(len(example[0])), rows)
    again = np.arange(rows) >= len(example[0])
    mixed = []
    for feed in example:
        values = feed[order]
        if feed.dtype.kind in "fc" and again.any():
            scales = np.where(again, rng.uniform(0.5, 1.5, rows), 1).reshape(rows, *[1] * (feed.ndim - 1))
            values = values * scales
        elif feed.ndim > 1 and again.any():  # ids and texts: the same values in another order
            for row in np.flatnonzero(again):
                values[row] = rng.permutation(values[row].reshape(-1)).reshape(values[row].shape)
        mixed.append(aligned_as(values, feed.dtype))
    return tuple(mixed)


# --- numbers ---


def _per_row(rng: Rng, shape: Shape, least: float, most: float) -> Any:
    """A power of ten for each row."""
    powers = 10.0 ** rng.uniform(least, most, shape[:1])
    return powers.reshape(-1, *[1] * (len(shape) - 1))


def _mixed(rng: Rng, shape: Shape) -> np.ndarray:
    """Rows of very different magnitude side by side: influence between rows is most visible in the small ones."""
    return np.asarray(rng.normal(size=shape) * _per_row(rng, shape, -3, 3))


def _sparse(rng: Rng, shape: Shape) -> np.ndarray:
    """Mostly zeros, with some rows of zeros only."""
    values = rng.normal(size=shape) * (rng.random(shape) < 0.3)
    values[1::4] = 0
    return values


def _one_hot(rng: Rng, shape: Shape) -> np.ndarray:
    values = np.zeros((shape[0], int(np.prod(shape[1:], dtype=np.int64))))
    if values.size:
        values[np.arange(shape[0]), rng.integers(values.shape[1], size=shape[0])] = rng.integers(
            1, 9, shape[0]
        )
    return values.reshape(shape)


def _with(special: float) -> Family:
    """Some rows have one number of this kind: a model may look for those in the whole request."""

    def family(rng: Rng, shape: Shape) -> np.ndarray:
        values = rng.normal(size=shape)
        values.reshape(shape[0], -1)[1::4, :1] = special
        return values

    return family


_FLOATS: tuple[Family, ...] = (
    lambda rng, shape: rng.normal(size=shape),
    _mixed,
    lambda rng, shape: rng.random(shape),
    _sparse,
    lambda rng, shape: rng.integers(0, 256, shape).astype(np.float64),
    lambda rng, shape: rng.normal(size=shape) * 0.01,
    _one_hot,
    lambda rng, shape: 1 + 0.05 * rng.normal(size=shape),
    _with(np.nan),
    lambda rng, shape: rng.integers(0, 2, shape).astype(np.float64),
    lambda rng, shape: rng.normal(size=shape) * 30,
    lambda rng, shape: rng.normal(size=shape) * 1e4,
    _with(np.inf),
    lambda _, shape: np.zeros(shape),  # only if nothing else is accepted
)

_RANGES = (
    (0, 10),
    (0, 100),
    (0, 2),
    (-10, 10),
    (0, 256),
    (1, 2),
    (0, 1),
    (0, MOST),
)


def _integers(dtype: np.dtype) -> tuple[Family, ...]:
    try:
        limits = np.iinfo(dtype)
        least, most = int(limits.min), int(limits.max)
    except ValueError:  # 4-bit and other small ones
        least, most = 0, 2

    def family(low: int, high: int) -> Family:
        low, high = max(low, least), min(high - 1, most)
        return lambda rng, shape: rng.integers(low, max(low, high), shape, np.int64, endpoint=True)

    return (*[family(low, high) for low, high in _RANGES],)


def _bools(share: float) -> Family:
    return lambda rng, shape: rng.random(shape) < share


# --- texts ---

_WORDS: list[str] = str.split(
    "the of and to in is it you that he was for on are with as they at be this have from or one had by "
    "word but not "
    "what all were we when your can said there use an each which she do how their if will up other about "
    "out many "
    "good bad cat dog house car red blue new york time 2 10 1999 3.5 x y A The I'm don't e-mail a@b.org"
)


def _sentence(rng: Rng, words: int) -> bytes:
    return " ".join(rng.choice(_WORDS, words)).encode()


def _letters(rng: Rng, length: int) -> bytes:
    return bytes(rng.integers(32, 127, length).astype(np.uint8))


def _png(rng: Rng, height: int, width: int) -> bytes:
    """An RGB image (PNG specification, third edition)."""
    pixels = rng.integers(0, 256, (height, width * 3)).astype(np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def _wav(rng: Rng, samples: int) -> bytes:
    """Mono sound of 16 bits."""
    data = rng.integers(-9000, 9000, samples).astype("<i2").tobytes()
    head = struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", len(data))
    return b"RIFF" + struct.pack("<I", 4 + len(head) + len(data)) + b"WAVE" + head + data


def _texts(make: Callable[[Rng, int], bytes]) -> Family:
    """A family of texts. `make` gets the number of the text, so that neighbouring texts differ in length."""

    def family(rng: Rng, shape: Shape) -> np.ndarray:
        made = np.empty(int(np.prod(shape, dtype=np.int64)), object)
        for number in range(len(made)):
            made[number] = make(rng, number)
        return made.reshape(shape)

    return family


_SIZES = (5, 1, 12, 0, 3, 30, 2, 8)


def _size(number: int) -> int:
    return _SIZES[number % len(_SIZES)]


_TEXTS: tuple[Family, ...] = (
    _texts(lambda rng, number: _sentence(rng, _size(number))),
    _texts(lambda rng, number: _letters(rng, 2 * _size(number))),
    _texts(lambda rng, number: _sentence(rng, 40 * _size(number) + 1)),
    _texts(lambda _, number: ("äé漢字かな🙂ß "[: 1 + _size(number) % 9] * (1 + number % 5)).encode()),
    _texts(lambda rng, _: _sentence(rng, 1)),
    _texts(lambda rng, number: f"{rng.normal() * 10 ** _size(number % 3):.4g}".encode()),
    _texts(lambda rng, number: b"%d" % rng.integers(10 ** (1 + number % 4))),
    _texts(lambda rng, _: _png(rng, 32, 32)),
    _texts(lambda rng, number: _png(rng, 16 + _size(number), 20 + _size(number + 1))),
    _texts(lambda rng, _: _wav(rng, 16000)),
    _texts(lambda rng, number: base64.urlsafe_b64encode(_letters(rng, 3 * (1 + _size(number))))),
    _texts(lambda rng, _: _letters(rng, 16)),
)
