"""What is tried, on which machine, and what is left alone because it was set by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.models.spec import ModelSpec
from broker.tuning.candidates import (
    MOST_SIZES,
    Fixed,
    Processors,
    batch_sizes,
    default_setting,
    settings,
    thread_counts,
)
from broker.tuning.setting import RunSetting

FREE = Fixed()
TWO = Processors(2, 2)

processors = st.integers(1, 128).flatmap(
    lambda visible: st.builds(Processors, st.just(visible), st.integers(1, visible))
)
fixed = st.builds(
    Fixed,
    st.none() | st.integers(1, 64),
    st.none() | st.integers(1, 64),
    st.none() | st.booleans(),
    st.none() | st.booleans(),
)


def tried(machine: Processors, by_hand: Fixed = FREE) -> list[RunSetting]:
    return settings(machine, by_hand, default_setting(machine, by_hand, True), [True, False])


def test_on_two_processors():
    """One thread or both, one run or two, in both places, with oneDNN on and off: sixteen settings."""
    found = tried(TWO)
    assert found[0] == RunSetting(onednn=True, intra_op_threads=2, caller_thread=False, side_by_side=1)
    assert len(found) == len(set(found)) == 16
    assert {(s.intra_op_threads, s.side_by_side) for s in found} == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_on_one_processor_nothing_runs_side_by_side():
    """There is only the place to choose, and oneDNN."""
    assert {(s.intra_op_threads, s.side_by_side) for s in tried(Processors(1, 1))} == {(1, 1)}


@pytest.mark.parametrize(
    ("machine", "threads"),
    [
        (Processors(1, 1), [1]),
        (Processors(2, 2), [1, 2]),
        (Processors(4, 4), [1, 2, 4]),
        (Processors(8, 8), [1, 4, 8]),
        (Processors(64, 64), [1, 16, 32, 64]),
        (Processors(64, 2), [1, 2, 64]),
    ],
    ids=str,
)
def test_threads_worth_trying(machine: Processors, threads: list[int]):
    """A few, however large the machine; TensorFlow's own number is among them even where a quota leaves less."""
    assert thread_counts(machine, FREE) == threads


def test_runs_side_by_side_fill_the_usable_processors():
    """As many as the quota has processors, not as many as the machine has."""
    sides = {s.side_by_side for s in tried(Processors(64, 4)) if s.intra_op_threads == 1}
    assert sides == {1, 4}


@given(processors, fixed)
def test_what_is_fixed_is_the_same_in_all(machine: Processors, by_hand: Fixed):
    """Nothing that is set by hand is varied, in the default neither; the default is the first."""
    found = tried(machine, by_hand)
    assert found[0] == default_setting(machine, by_hand, True)
    for one in found:
        assert by_hand.intra_op_threads in (None, one.intra_op_threads)
        assert by_hand.side_by_side in (None, one.side_by_side)
        assert by_hand.caller_thread in (None, one.caller_thread)


@given(processors)
def test_there_are_never_many(machine: Processors):
    """At most four numbers of threads, two of runs, two places, oneDNN on and off."""
    assert len(tried(machine)) <= 5 * 2 * 2 * 2


@pytest.mark.parametrize(
    ("options", "batchable", "sizes"),
    [
        ({}, True, (1, 4, 8, 16, 32, 64)),
        ({}, False, (1,)),
        ({"batching": False}, True, (1,)),
        ({"max_batch_size": 1}, True, (1,)),
        ({"max_batch_size": 2}, True, (1, 2)),
        ({"max_batch_size": 24}, True, (1, 4, 8, 16, 24)),
        ({"allowed_batch_sizes": [2, 6]}, True, (2, 6)),
    ],
    ids=str,
)
def test_batch_sizes(options: dict, batchable: bool, sizes: tuple[int, ...]):
    """1, powers of two and the limit; only those allowed where there is a list; one where nothing is joined."""
    assert batch_sizes(ModelSpec("m", "models/m", **options), batchable) == sizes


@given(st.integers(1, 1 << 16))
def test_a_high_limit_is_reached_in_few_steps(limit: int):
    """However large the batches may be, few sizes are tried, the smallest and the largest among them."""
    sizes = batch_sizes(ModelSpec("m", "models/m", max_batch_size=limit), True)
    assert sizes[0] == 1
    assert sizes[-1] == limit
    assert len(sizes) <= MOST_SIZES
    assert list(sizes) == sorted(set(sizes))
