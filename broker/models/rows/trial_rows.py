"""Selects the rows for the requests of an examination (independence.py), and varies their values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from broker.models.examples import Feeds
from broker.models.rows.made_up import aligned_as


def regrouped(first: Sequence[int], second: Sequence[int]) -> list[list[int]]:
    """Requests of some of these rows: all, some, duplicates, reversed."""
    whole = list(first)
    found = [whole, [whole[1], whole[0]], [whole[0], *whole[:-1]]]
    if len(whole) > 2:
        found += [[*reversed(second)], [second[0], whole[0], second[-1]]]
    return found


def kept_halves(rows: int) -> Iterator[list[bool]]:
    """Which rows to keep, so that for each pair of rows one is kept while the other is exchanged, in both
    directions."""
    bits = max(1, (rows - 1).bit_length())
    for bit, value in product(range(bits), (0, 1)):
        yield [(number >> bit) & 1 == value for number in range(rows)]


def picked(pool: Feeds, request: Sequence[int]) -> Feeds:
    """A request of the pool's rows with these numbers."""
    return tuple(aligned_as(feed[list(request)], feed.dtype) for feed in pool)


def shaken(feeds: Feeds, rng: np.random.Generator) -> Feeds:
    """The same values, with other last bits in floats."""
    made = []
    for feed in feeds:
        if feed.dtype.kind in "fcV":
            part = 1e-6 if feed.dtype.itemsize > 2 else 8e-3
            wide = np.complex128 if feed.dtype.kind == "c" else np.float64
            feed = aligned_as(feed.astype(wide) * (1 + part * rng.normal(size=feed.shape)), feed.dtype)
        made.append(feed)
    return tuple(made)
