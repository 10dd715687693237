"""Requests that no client would send, by the ten thousand, through the broker's own intake, channel and runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.fuzz.cases import Case, Cases
from tests.faults.fuzz.target import SLOTS, Target, target

MANY = 30_000
VERY_MANY = 1_000_000
HONEST_EVERY = 64


@pytest.fixture
def fuzzed() -> Iterator[Target]:
    with target() as made:
        yield made


def bombard(fuzzed: Target, draw: Callable[[], Case], count: int) -> None:
    """Submit so many drawn requests, and look at everything after each."""
    for number in range(count):
        index = number % SLOTS
        case = draw()
        fuzzed.write(index, case)
        fuzzed.submit(index)
        try:
            fuzzed.settle()
            fuzzed.check_idle()
            fuzzed.check_untouched()
            if number % HONEST_EVERY == 0:
                fuzzed.check_honest()
                fuzzed.forget_posts()
        except Exception as error:
            raise AssertionError(f"{error!r} after case {number} in slot {index}: {case}") from error
    fuzzed.check_bounds()


def test_valid_requests_are_run(fuzzed: Target, seed: int):
    """The cases without anything wrong are all answered with a result: what is tried below is near to what runs."""
    cases = Cases(fuzzed.ids, seed)
    bombard(fuzzed, cases.valid, 300)
    for serving in fuzzed.intake.servings:
        assert serving is None or (serving.requests > 0 and not serving.failures)
    assert not fuzzed.violations


def test_requests_with_something_wrong(fuzzed: Target, seed: int):
    """A header or table with one to three things wrong costs its sender an error at most, and nobody else anything."""
    bombard(fuzzed, Cases(fuzzed.ids, seed).wrong, MANY // 2)


def test_requests_of_random_bytes(fuzzed: Target, seed: int):
    """Random headers and tables cost their sender an error at most, and nobody else anything."""
    bombard(fuzzed, Cases(fuzzed.ids, seed).noise, MANY // 2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["wrong", "noise"])
def test_very_many_requests(fuzzed: Target, seed: int, kind: str):
    """The same a million times."""
    bombard(fuzzed, getattr(Cases(fuzzed.ids, seed), kind), VERY_MANY // 2)
