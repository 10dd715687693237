"""A start that takes long: what is logged about it, and when it is ended."""

from __future__ import annotations

import logging

from broker.counters.run_record import RunRecord
from broker.models.lifecycle.start import LEAST_LIMIT_AGAIN_SECONDS, TELL_SECONDS, Start, limit_again

SECOND = 1_000_000_000


def test_it_is_told_of_now_and_then() -> None:
    """With the model that is being loaded, for how long, and when it is given up."""
    start = Start(100, 60)
    assert start.news(100 + TELL_SECONDS - 1, "digits", 8) == ""
    told = start.news(100 + TELL_SECONDS, "digits", 9)
    assert "model 'digits' has been loading for 9 s" in told
    assert "given up after 60 s (start_seconds)" in told
    assert start.news(100 + TELL_SECONDS + 1, "digits", 10) == ""
    assert "importing libraries or tuning" in start.news(100 + 2 * TELL_SECONDS, "", 0)


def test_only_a_model_that_loads_for_long_is_worth_a_warning() -> None:
    """A first start measures for twenty seconds and says so; nothing is wrong then."""
    assert Start.level("", 0) == Start.level("digits", 0) == logging.INFO
    assert Start.level("digits", TELL_SECONDS) == logging.WARNING


def test_it_has_an_end_at_its_limit() -> None:
    """0 sets none; what the machine stood still is not counted."""
    start = Start(100, 60)
    assert start.why_end(159, "digits", 50) == ""
    assert "model 'digits' has been loading for 51 s" in start.why_end(160, "digits", 51)
    start.forgive(30)
    assert start.why_end(189, "digits", 80) == ""
    assert Start(100, 0).why_end(1e9, "digits", 1e9) == ""


def test_another_start_may_take_ten_times_what_one_has_taken() -> None:
    """A minute at the least, and never more than the first: with no limit there is none."""
    assert limit_again(600, 0.5) == LEAST_LIMIT_AGAIN_SECONDS
    assert limit_again(600, 20) == 200
    assert limit_again(600, 100) == 600
    assert limit_again(5, 100) == 5
    assert limit_again(0, 100) == 0


def test_the_record_says_what_is_loaded() -> None:
    """To its parent, whose mapping is another; a shorter name leaves nothing of a longer one."""
    record = RunRecord()
    assert record.loading(SECOND) == ("", 0)
    record.load_begins("a longer name", SECOND)
    record.load_begins("größer", 2 * SECOND)
    assert record.loading(5 * SECOND) == ("größer", 3)
    assert not record.knows("größer")
    record.load_begins("", 6 * SECOND)
    assert record.loading(7 * SECOND) == ("", 0)
