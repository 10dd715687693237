"""The first runs of a signature."""

from __future__ import annotations

import numpy as np
import pytest

from broker.models import warmup
from broker.models.examples import aligned
from broker.models.warmup import LIGHT_LIMIT_US, MAX_RUNS, MIN_RUNS, Cost, measure, zeros
from tests.arrays import is_aligned
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
    """All of them are run as they are, and timed at the end; the first gives the row and the batches that are timed."""
    time = clock(10)
    seen: list[float] = []

    def run(*feeds):
        seen.append(float(feeds[0].ravel()[0]))
        assert is_aligned(feeds[0])
        return time.run(*feeds)

    examples = [(aligned(np.full((rows, 4), rows, np.float32)),) for rows in (3, 2)]
    cost = measure(run, signature((None, 4)), max_rows=8, examples=examples)
    assert time.rows[:3] == [3, 2, 1]
    assert seen[2:-2] == [3] * len(seen[2:-2])
    assert seen[-2:] == [3, 2]
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


class Areas(Clock):
    """Time that passes by what the inputs hold, beyond one element."""

    def run(self, *feeds: np.ndarray) -> list[np.ndarray]:
        self.rows.append(feeds[0].size)
        self.now_ns += int(feeds[0].size * self.row_us * 1000)
        return []


@pytest.fixture
def areas(monkeypatch):
    def make(element_us: float) -> Areas:
        made = Areas(element_us)
        monkeypatch.setattr(warmup, "perf_counter_ns", made)
        return made

    return make


@pytest.mark.parametrize(
    ("element_us", "light", "largest"), [(0.01, True, 256 * 256), (1, False, 256 * 256), (3, False, 64 * 64)]
)
def test_free_sizes_are_tried_with_more_than_one(areas, element_us, light, largest):
    """A fully convolutional model is cheap on one pixel. Larger ones are tried up to the first that takes long."""
    time = areas(element_us)
    cost = measure(time.run, signature((None, None, None, 1)))
    assert (cost.p50_us, cost.light, cost.unlike) == (element_us, light, "")
    assert max(time.rows) == largest


def test_free_sizes_are_not_tried_where_each_is_compiled(areas):
    time = areas(1)
    assert measure(time.run, signature((None, None)), larger=False).light
    assert set(time.rows) == {1}


def test_free_sizes_that_multiply_are_bounded(areas):
    """Four of them: 64 each would be 64 MiB."""
    time = areas(0.001)
    measure(time.run, signature((None, None, None, None, None)))
    assert set(time.rows) == {1, 16**4}


@pytest.mark.parametrize(("apart", "sizes"), [(False, {1}), (True, {1, 16, 64, 256})])
def test_rows_are_a_free_size_where_requests_run_as_they_came(areas, apart, sizes):
    """One that is split never is larger than a batch, which is measured as such."""
    time = areas(0.001)
    assert measure(time.run, signature((None,)), apart=apart).light
    assert set(time.rows) == sizes
    time = areas(0.001)
    measure(time.run, signature((None,), outputs=((1,),)))  # no rows at all
    assert set(time.rows) == {1, 16, 64, 256}


def test_what_takes_long_in_batches_is_not_light(clock):
    """They hold the thread as long."""
    time = clock(100)
    assert measure(time.run, signature((None, 4)), max_rows=50).light
    assert not measure(time.run, signature((None, 4)), max_rows=51).light


def test_the_longest_example_decides(clock):
    time = clock(100)
    short, long = (aligned(np.ones((rows, 4), np.float32)) for rows in (1, 51))
    assert measure(time.run, signature((None, 4)), examples=[(short,)]).light
    assert not measure(time.run, signature((None, 4)), examples=[(short,), (long,)]).light


def test_sizes_that_are_illegal_say_nothing(areas):
    """If no other than 1 is legal, nothing is known of what requests are like."""
    time = areas(0.001)

    def multiples_of_64(x):
        if x.size not in (1, 64, 256):
            raise ModelFailed("not a multiple of 64")
        return time.run(x)

    def only_one(x):
        if x.size != 1:
            raise ModelFailed("no")
        return time.run(x)

    assert measure(multiples_of_64, signature((None, None))).unlike == ""
    assert measure(only_one, signature((None, None))).unlike == "only free dimensions of 1 could be run"


def test_empty_strings_say_nothing(clock):
    """What a text or an image takes is seen when there is one."""
    time = clock(10)
    texts = Signature("s", (TensorSpec("x", np.dtype(object), (None,)),), (TensorSpec("y", F32, (None,)),))
    assert measure(time.run, texts).unlike == "only empty strings were run"
    example = (np.array([b"text"], object),)
    assert measure(time.run, texts, examples=[example]).unlike == ""


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
