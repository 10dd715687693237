"""For how long a broker has had no worker."""

from __future__ import annotations

from broker.server.retirement import Idleness


def test_it_counts_from_the_last_look_with_a_worker() -> None:
    idleness = Idleness(10, now=0)
    assert not idleness.update(0, now=9)
    assert not idleness.update(1, now=10)
    assert idleness.seconds_left(10) is None
    assert not idleness.update(0, now=11)
    assert idleness.seconds_left(15) == 6
    assert not idleness.update(0, now=20)
    assert idleness.update(0, now=21)


def test_a_worker_that_came_and_went_between_two_looks_counts() -> None:
    idleness = Idleness(10, now=0)
    idleness.worker_left(9.5)
    assert not idleness.update(0, now=10)
    assert idleness.update(0, now=19.5)
