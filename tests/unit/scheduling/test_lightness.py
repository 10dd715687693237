"""Light or heavy, on a clock of the test's own: one or two long runs make a signature heavy, only many short ones
light."""

from __future__ import annotations

import random

import pytest

from broker.scheduling.lightness import (
    FAR_TOO_LONG_NS,
    FIRST_PAUSE_NS,
    LAST_PAUSE_NS,
    LONG,
    LONG_NS,
    MEASURED,
    OUTWEIGHED_BY,
    SHORT,
    SHORT_NS,
    SHORT_RUNS,
    SLOW,
    UNMEASURED,
    Lightness,
)

US, MS, S = 1_000, 1_000_000, 1_000_000_000
BETWEEN_NS = 1 * MS
"""From the end of a run to the next one: so many runs are a matter of seconds."""


class Signature:
    """One whose runs take what the test says, weighed as a ServedSignature does it, on a clock that only runs move."""

    def __init__(self, light: bool, why: str = MEASURED, always_heavy: str = "") -> None:
        self.decision = Lightness(light, why, always_heavy)
        self.now_ns = 1000 * S
        self.mean_ns = 100 * US if light else SHORT_NS
        self.number = 0
        self.inline: list[int] = []  # what the intake thread was held for, run by run

    @property
    def light(self) -> bool:
        return self.decision.light

    def run(self, run_ns: int) -> None:
        if self.light:
            self.inline.append(run_ns)
        self.number += 1
        self.now_ns += BETWEEN_NS + run_ns
        self.mean_ns += (run_ns - self.mean_ns) >> 5
        if run_ns > self.decision.watch_ns:
            self.decision.ran(run_ns, self.mean_ns, self.now_ns, self.number)

    def runs(self, run_ns: int, times: int) -> None:
        for _ in range(times):
            self.run(run_ns)

    def runs_until_light(self, run_ns: int = 100 * US) -> int:
        for times in range(10_000_000):
            if self.light:
                return times
            self.run(run_ns)
        pytest.fail("never light again")


def test_unknown_is_heavy_until_enough_runs_were_short() -> None:
    """Whatever the first run takes, and however short it is."""
    found = Signature(False, UNMEASURED)
    found.run(250 * MS)
    assert (found.light, found.decision.why) == (False, UNMEASURED)
    found.runs(100 * US, SHORT_RUNS - 1)
    assert not found.light
    found.run(100 * US)
    assert (found.light, found.decision.why) == (True, SHORT)


def test_one_run_far_too_long_makes_it_heavy_at_once() -> None:
    """However short ten thousand runs before it were."""
    found = Signature(True)
    found.runs(50 * US, 10_000)
    found.run(FAR_TOO_LONG_NS + 1)
    assert (found.light, found.decision.why) == (False, LONG)


@pytest.mark.parametrize("between", [0, 30, SHORT_RUNS - 2])
def test_two_long_runs_make_it_heavy(between: int) -> None:
    """Whatever the machine does, a host does not take its processor twice in so few runs."""
    found = Signature(True)
    found.runs(50 * US, 10_000)
    found.run(LONG_NS + 1)
    found.runs(50 * US, between)
    assert (found.light, found.decision.why) == (True, MEASURED)
    found.run(LONG_NS + 1)
    assert (found.light, found.decision.why) == (False, LONG)


@pytest.mark.parametrize("stolen_ms", [6, 11, 24])
def test_a_host_that_takes_processors_away_leaves_it_light(stolen_ms: int) -> None:
    """For some milliseconds in every thousand runs."""
    found = Signature(True)
    for _ in range(20):
        found.runs(50 * US, 1000)
        found.run(stolen_ms * MS)
    assert (found.light, found.decision.why) == (True, MEASURED)


def test_what_is_just_short_enough_stays_light() -> None:
    found = Signature(True)
    found.runs(SHORT_NS // 2, 1000)
    found.run(LONG_NS)
    assert (found.light, found.decision.why) == (True, MEASURED)


def test_runs_that_are_slow_on_average_make_it_heavy() -> None:
    """Though each by itself would be no reason."""
    found = Signature(True)
    found.runs(LONG_NS - 1, 32)
    assert (found.light, found.decision.why) == (False, SLOW)


@pytest.mark.parametrize("every", [20, 100, 300], ids="1 of {}".format)
def test_a_long_run_now_and_then_keeps_it_heavy(every: int) -> None:
    """One request of twenty takes 100 ms. The moving average of such runs is small nearly always."""
    found = Signature(True)
    for number in range(20_000):
        found.run(100 * MS if number % every == every - 1 else 100 * US)
    assert not found.light
    assert found.inline.count(100 * MS) == 1


@pytest.mark.parametrize("share", [0.05, 0.01, 0.002])
def test_long_runs_by_chance_hold_the_intake_ever_more_rarely(share: float) -> None:
    """Rare enough to be light again at times, it is so after pauses that double: some ten times in the first hour."""
    chance = random.Random(7)
    found = Signature(True)
    begun = found.now_ns
    while found.now_ns < begun + 3600 * S:
        found.run(100 * MS if chance.random() < share else 100 * US)
        found.now_ns += 10 * MS
    assert found.inline.count(100 * MS) <= 12


def test_light_again_after_many_short_runs_and_a_pause() -> None:
    """Both: at ten thousand requests a second many runs are soon over, at one in a minute a pause is."""
    found = Signature(True)
    found.run(100 * MS)
    ended = found.now_ns
    assert found.runs_until_light() >= SHORT_RUNS
    assert found.now_ns >= ended + FIRST_PAUSE_NS
    found = Signature(True)
    found.run(100 * MS)
    found.now_ns += LAST_PAUSE_NS
    assert found.runs_until_light() == SHORT_RUNS


def test_each_relapse_doubles_the_pause_up_to_a_bound() -> None:
    found = Signature(True)
    pauses = []
    for _ in range(9):
        found.run(100 * MS)
        ended = found.now_ns
        found.runs_until_light()
        pauses.append(found.now_ns - ended)
    for pause, expected in zip(pauses, [10, 20, 40, 80, 160, 320, 600, 600, 600], strict=True):
        assert expected * S <= pause < (expected + 1) * S


def test_a_long_good_time_is_a_new_start() -> None:
    found = Signature(True)
    for _ in range(4):
        found.run(100 * MS)
        found.runs_until_light()
    found.now_ns += 10 * LAST_PAUSE_NS
    found.run(100 * MS)
    ended = found.now_ns
    found.runs_until_light()
    assert found.now_ns - ended < FIRST_PAUSE_NS + S


def test_a_run_that_is_neither_short_nor_long_is_outweighed_by_many() -> None:
    """A light model beside busy processors has some; a model of which each tenth run is one stays heavy."""
    busy = Signature(False, UNMEASURED)
    for number in range(10 * SHORT_RUNS):
        busy.run(2 * MS if number % (2 * OUTWEIGHED_BY) == 0 else 100 * US)
    assert busy.light
    slow = Signature(False, UNMEASURED)
    for number in range(10 * SHORT_RUNS):
        slow.run(2 * MS if number % 10 == 0 else 10 * US)
    assert not slow.light


def test_in_between_it_stays_what_it_is() -> None:
    """Runs of 0.6 ms: no reason to change a light signature nor a heavy one."""
    light, heavy = Signature(True), Signature(False)
    light.runs(600 * US, 10 * SHORT_RUNS)
    heavy.runs(600 * US, 10 * SHORT_RUNS)
    assert (light.light, heavy.light) == (True, False)


def test_what_must_be_heavy_stays_so() -> None:
    found = Signature(True, MEASURED, "inline = false")
    assert (found.light, found.decision.why) == (False, "inline = false")
    found.runs(10 * US, 10 * SHORT_RUNS)
    assert (found.light, found.decision.why) == (False, "inline = false")
