"""When windows agree: the last three, in rate and in latency, from the lowest to the highest."""

from __future__ import annotations

import pytest

from broker.bench.stability import WindowLevel, agree, stable

STEADY = [WindowLevel(1000, 50), WindowLevel(1050, 51), WindowLevel(1020, 52)]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_windows_are_never_stable(count: int) -> None:
    assert not stable(STEADY[:count], within=10.0)


def test_only_the_last_three_count() -> None:
    """A slow start is forgotten; what is bad at the end is not."""
    assert stable([WindowLevel(1, 1), WindowLevel(100_000, 1), *STEADY], within=0.1)
    assert not stable([*STEADY, WindowLevel(2000, 50)], within=0.1)


def test_rate_and_latency_must_both_agree() -> None:
    rates = [level._replace(per_s=level.per_s * factor) for level, factor in zip(STEADY, (1, 1, 2))]
    latencies = [
        level._replace(latency_ns=level.latency_ns * factor) for level, factor in zip(STEADY, (1, 2, 1))
    ]
    assert stable(STEADY, within=0.1)
    assert not stable(rates, within=0.1)
    assert not stable(latencies, within=0.1)


def test_the_share_counts_from_the_lowest() -> None:
    assert agree([100, 110, 105], within=0.1)
    assert not agree([100, 111, 105], within=0.1)


def test_nothing_agrees_with_nothing() -> None:
    """Windows without an answer are alike, and say nothing."""
    assert not stable([WindowLevel(0, 0)] * 3, within=0.1)
