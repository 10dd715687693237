"""When a dead broker is started again, when that is given up; pauses that grow. All on a clock that stands still."""

from __future__ import annotations

import pytest

from broker.restarts import LAST_PAUSE_SECONDS, MAX_FAILED_STARTS, STABLE_SECONDS, Restarts
from worker_client.wire.backoff import Backoff

DIED_SOON = 0.5


def pauses(restarts: Restarts, *served: float | None) -> list[float | None]:
    return [restarts.pause_s(seconds) for seconds in served]


def test_pauses_double_up_to_a_limit() -> None:
    """A back-off gives its first pause, then twice as long each time, and stays at the last."""
    backoff = Backoff(0.001, 0.05)
    assert [round(backoff.next_s() * 1000) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 50, 50, 50]
    backoff.reset()
    assert backoff.next_s() == 0.001


def test_the_first_restart_is_at_once_the_next_ones_later_and_later() -> None:
    """Brokers that serve and die soon are started again after 0, 0.1, 0.2 seconds and so on, for ever."""
    found = pauses(Restarts(), *[DIED_SOON] * 20)
    assert found[:7] == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert found[7:] == [LAST_PAUSE_SECONDS] * 13


def test_a_stable_minute_makes_up_for_everything() -> None:
    """After a broker that served for a minute the next restart is at once again, however many there were before."""
    restarts = Restarts()
    pauses(restarts, *[DIED_SOON] * 9)
    assert pauses(restarts, STABLE_SECONDS, DIED_SOON, DIED_SOON) == [0, 0.1, 0.2]
    assert pauses(restarts, STABLE_SECONDS - 0.1) == [0.4]


def test_starts_that_fail_in_a_row_are_given_up() -> None:
    """The fifth start in a row that does not become ready is the last."""
    restarts = Restarts()
    assert pauses(restarts, DIED_SOON, *[None] * MAX_FAILED_STARTS) == [0, 0.1, 0.2, 0.4, 0.8, None]
    assert restarts.failed_starts == MAX_FAILED_STARTS


@pytest.mark.parametrize("served", [0.0, DIED_SOON, 2 * STABLE_SECONDS])
def test_a_start_that_succeeds_ends_the_row(served: float) -> None:
    """Four failed starts, one that becomes ready, however shortly, and four failed ones are not given up."""
    restarts = Restarts()
    failures = [None] * (MAX_FAILED_STARTS - 1)
    assert None not in pauses(restarts, DIED_SOON, *failures, served, *failures)
    assert pauses(restarts, None) == [None]


class Host:
    """A clock, and brokers that serve for so long each; what it would look like from outside."""

    def __init__(self, served: list[float | None], start_s: float) -> None:
        self.now = 0.0
        self.starts: list[float] = []
        restarts = Restarts()
        for seconds in served:
            self.starts.append(self.now)
            self.now += start_s + (seconds or 0)
            pause = restarts.pause_s(seconds)
            if pause is None:
                return
            self.now += pause


def test_a_crash_loop_costs_little() -> None:
    """A broker that dies at its every first request is started less than 20 times in the first minute."""
    host = Host([0.0] * 100, start_s=0.3)
    assert 10 < sum(start < 60 for start in host.starts) < 20


def test_a_broker_that_cannot_start_is_given_up_within_seconds() -> None:
    """What has become unable to start is known to be so after five tries, pauses of 1.5 seconds in all."""
    host = Host([3600.0, *[None] * 10], start_s=1.0)
    assert len(host.starts) == 1 + MAX_FAILED_STARTS
    assert host.now == pytest.approx(3601 + MAX_FAILED_STARTS + 0.1 + 0.2 + 0.4 + 0.8)
