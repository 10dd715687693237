"""Durations in half-octave buckets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.counters.histogram import BOUNDS_NS, BUCKETS, Histogram, upper_ns


def histogram_of(*values_ns: int) -> Histogram:
    found = Histogram()
    for ns in values_ns:
        found.counts[(ns * ns).bit_length()] += 1
        found.sum_ns += ns
    return found


@given(st.integers(1, 1 << 40))
def test_a_bucket_holds_what_is_below_its_bound_and_in_no_earlier_one(ns: int):
    """Exactly, also where the square root is not a whole number."""
    bucket = (ns * ns).bit_length()
    assert ns * ns < 2**bucket
    assert ns * ns >= 2 ** (bucket - 1)
    assert upper_ns(bucket) == pytest.approx(2 ** (bucket / 2))


@pytest.mark.parametrize("word", [0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_any_two_words_have_a_bucket(word: int):
    """Whatever a worker says when it submitted, nothing is counted outside of the list."""
    for other in (0, 1 << 40, (1 << 64) - 1):
        assert ((word - other) ** 2).bit_length() < BUCKETS


@given(st.lists(st.integers(0, 1 << 38), max_size=50))
def test_cumulative_counts_what_is_below_each_bound(values: list[int]):
    """So every bound that Prometheus is told is a bucket's own."""
    found = dict(histogram_of(*values).cumulative())
    assert list(found) == list(BOUNDS_NS)
    assert found == {bound: sum(value < bound for value in values) for bound in BOUNDS_NS}


@pytest.mark.parametrize("q", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_are_near(q: float, rng: np.random.Generator):
    """Within a factor of sqrt(2) of the real ones."""
    values = rng.lognormal(9, 1, 5000).astype(int) + 1
    real = float(np.quantile(values, q))
    assert real / 1.415 <= histogram_of(*values.tolist()).quantile_ns(q) <= real * 1.415


def test_nothing_counted():
    """An empty histogram has zeros to tell."""
    empty = Histogram()
    assert (empty.count, empty.mean_ns, empty.quantile_ns(0.5)) == (0, 0.0, 0.0)


@given(st.lists(st.integers(0, 1 << 38), max_size=20), st.lists(st.integers(0, 1 << 38), max_size=20))
def test_adding_and_taking_away(first: list[int], second: list[int]):
    """What was counted since a moment, of one thread or several; as it is sent."""
    both = histogram_of(*first)
    both.add(histogram_of(*second).counts, sum(second))
    assert both.counts == histogram_of(*first, *second).counts
    since = both.since(histogram_of(*first))
    assert (since.counts, since.sum_ns) == (histogram_of(*second).counts, sum(second))
    again = Histogram.from_message(both.to_message())
    assert (again.counts, again.sum_ns) == (both.counts, both.sum_ns)
