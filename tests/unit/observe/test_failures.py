"""Failed requests: all are counted, few are logged."""

from __future__ import annotations

import logging

import pytest

from broker.counters.failures import Failures, SignatureKey
from broker.counters.log_rate import RateLimit
from worker_client import DeadlineExceeded, ModelFailed

DIGITS = SignatureKey("digits", 1, "serving_default")


def test_a_flood_is_one_line_in_a_while():
    """The next line tells how many went without one; each kind has its own."""
    limit = RateLimit(10)
    assert limit.left_out("a", 100.0) == 0
    assert [limit.left_out("a", 100.0 + second) for second in range(1, 10)] == [None] * 9
    assert limit.left_out("b", 101.0) == 0
    assert limit.left_out("a", 110.0) == 9
    assert limit.left_out("a", 121.0) == 0


def test_every_failure_is_counted(caplog: pytest.LogCaptureFixture):
    """By what was asked for and by class; the log has the first, on one line."""
    failures = Failures()
    with caplog.at_level(logging.INFO, "onesession"):
        for number in range(5):
            failures.add(DIGITS, ModelFailed(f"row {number}\nis bad"), 4711)
        failures.add(DIGITS, DeadlineExceeded("late"), 4711)
        failures.add(SignatureKey(), ModelFailed("?"), 4712)
    assert failures.of(DIGITS) == {"ModelFailed": 5, "DeadlineExceeded": 1}
    assert sum(failures.counts().values()) == 7
    first, second, third = caplog.records
    assert first.getMessage() == (
        "a request of pid 4711 failed: model 'digits' version 1, signature 'serving_default': "
        "ModelFailed: row 0 is bad"
    )
    assert (first.levelname, second.levelname, third.levelname) == ("WARNING", "INFO", "WARNING")
    assert "no model" in third.getMessage()
