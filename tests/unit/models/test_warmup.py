"""The first runs of a signature."""

from __future__ import annotations

import numpy as np
import pytest

from broker.models import warmup
from broker.models.aligned import is_aligned
from broker.models.examples import aligned
from broker.models.warmup import LIGHT_LIMIT_US, MAX_RUNS, MIN_RUNS, Cost, measure, zeros
from worker_client.wire.errors import ModelFailed
from worker_client.wire.signature import Signature, TensorSpec

F32 = np.dtype(np.float32)


def signature(*inputs, outputs=((None, 1),)) -> Signature:
    return Signature(
        "s",
        tuple(TensorSpec(f"x{i}", F32, shape) for i, shape in enumerate(inputs)),
        tuple(TensorSpec(f"y{i}", F32, shape) for i, shape in enumerate(outputs)),
    )


class Clock:
    """Time that only a run makes pass: what one row costs, and each further row as much again."""

    def __init__(self, row_us: float) -> None:
        self.now_ns = 0
        self.row_us = row_us
        self.rows: list[int] = []

    def run(self, *feeds: np.ndarray) -> list[np.ndarray]:
        rows = len(feeds[0]) if feeds and feeds[0].shape else 1
        self.rows.append(rows)
        self.now_ns += int(rows * self.row_us * 1000)
        return []

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock(monkeypatch):
    def make(row_us: float) -> Clock:
        made = Clock(row_us)
        monkeypatch.setattr(warmup, "perf_counter_ns", made)
        return made

    return make


@pytest.mark.parametrize(
    ("row_us", "light", "timed"),
    [
        (1, True, MAX_RUNS),
        (LIGHT_LIMIT_US, True, MAX_RUNS),
        (LIGHT_LIMIT_US + 1, False, MAX_RUNS),
        (30_000, False, 10),
        (10_000_000, False, MIN_RUNS),
    ],
)
def test_light_is_at_most_the_limit_and_the_measuring_bounded(clock, row_us, light, timed):
    """One run that is not counted, then as many as fit in 0.3 s: at least 3, at most 200."""
    time = clock(row_us)
    assert measure(time.run, signature((None, 4))) == Cost(row_us, light)
    assert time.rows == [1] * (1 + timed)


@pytest.mark.parametrize(("row_us", "rows"), [(10, 64), (20_000, 25), (400_000, None), (0.0001, 64)])
def test_a_batch_is_run_as_large_as_its_time_allows(clock, row_us, rows):
    """The largest batch is warmed as well, a smaller one where it would take more than half a second."""
    time = clock(row_us)
    cost = measure(time.run, signature((None, 4)), max_rows=64)
    assert set(time.rows) == {1, *([rows] if rows else [])}
    assert [size for size, _ in cost.batches] == ([rows] if rows else [])


def test_every_allowed_size_is_warmed(clock):
    """However long it takes, as those are the sizes that will be run; each is timed after its first run."""
    time = clock(100_000)
    cost = measure(time.run, signature((None, 4)), max_rows=16, sizes=(1, 4, 16))
    assert time.rows[-3:] == [4, 4, 16]
    assert cost.batches == ((4, 400_000), (16, 1_600_000))


def test_one_run_that_is_held_up_decides_nothing(clock):
    """Of a quick batch, whose times say how long others wait for company."""
    time = clock(10)

    def run(*feeds):
        held_up = len(feeds[0]) == 16 and time.rows.count(16) == 1
        time.now_ns += 4_000_000 if held_up else 0
        return time.run(*feeds)

    cost = measure(run, signature((None, 4)), max_rows=16)
    assert cost.batches == ((16, 160),)


def test_examples_stand_for_zeros(clock):
    """All of them are run as they are, and the first gives the row and the batches that are timed."""
    time = clock(10)
    seen: list[float] = []

    def run(*feeds):
        seen.append(float(feeds[0].ravel()[0]))
        assert is_aligned(feeds[0])
        return time.run(*feeds)

    examples = [(aligned(np.full((rows, 4), rows, np.float32)),) for rows in (3, 2)]
    cost = measure(run, signature((None, 4)), max_rows=8, examples=examples)
    assert time.rows[:3] == [3, 2, 1]
    assert seen[2:] == [3] * len(seen[2:])
    assert cost == Cost(10, True, None, ((8, 80),))


def test_an_example_that_fails_is_told(clock):
    """The next one that works takes its place."""
    time = clock(10)

    def run(*feeds):
        if feeds[0][0] < 0:
            raise ModelFailed("negative")
        return time.run(*feeds)

    examples = [(np.float32([value]),) for value in (-1, 5, -2)]
    cost = measure(run, signature((None,)), examples=examples)
    assert cost == Cost(10, True, "example 1 of 3 failed: negative")


def test_zeros_are_aligned_and_of_the_signatures_shapes():
    """The rows asked for in the first dimension of a batchable signature, one in every other free one."""
    (x,) = zeros(signature((None, None, 3)), 5)
    assert (x.shape, x.dtype, x.any(), is_aligned(x)) == ((5, 1, 3), F32, False, True)
    shapes = [x.shape for x in zeros(signature((None, 2), (), (4,), outputs=((1,),)), 5)]
    assert shapes == [(1, 2), (), (4,)]


def test_a_run_that_raises_is_not_fatal():
    """Zeros may be illegal for a model: it counts as heavy, and the reason is kept."""

    def run(*feeds):
        raise ModelFailed("0 is no valid id")

    cost = measure(run, signature((None,)), max_rows=8)
    assert cost == Cost(None, False, "not measured: a run with zeros failed: 0 is no valid id")


def test_a_batch_that_raises_does_not_spoil_the_measurement(clock):
    """A model that takes only one row at a time is still measured by it."""
    time = clock(10)

    def run(*feeds):
        if len(feeds[0]) > 1:
            raise ModelFailed("one at a time")
        return time.run(*feeds)

    cost = measure(run, signature((None, 4)), max_rows=8)
    assert cost == Cost(10, True, "a batch of 8 rows of zeros failed: one at a time")


def test_an_unknown_rank_is_not_guessed():
    """Without a rank there is nothing to feed: not run, and heavy."""
    cost = measure(lambda *feeds: pytest.fail("was run"), signature((None, 4), None))
    assert cost == Cost(None, False, "not measured: the rank of input x1 is unknown")


def test_no_inputs(clock):
    """A signature that takes nothing is measured by calling it."""
    time = clock(5)
    assert measure(time.run, signature(), max_rows=1) == Cost(5, True)
