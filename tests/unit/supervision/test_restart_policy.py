"""When a dead broker is started again, and when not; pauses that grow. All on a clock that stands still."""

from __future__ import annotations

import pytest

from broker.supervision.restart_policy import (
    LAST_PAUSE_OF_STARTS_SECONDS,
    LAST_PAUSE_SECONDS,
    STABLE_SECONDS,
    RestartPolicy,
)
from worker_client.ipc.backoff import Backoff

DIED_SOON = 0.5


def pauses(restarts: RestartPolicy, *served: float | None) -> list[float | None]:
    return [restarts.pause_s(seconds) for seconds in served]


def test_pauses_double_up_to_a_limit() -> None:
    """A back-off gives its first pause, then twice as long each time, and stays at the last."""
    backoff = Backoff(0.001, 0.05)
    assert [round(backoff.next_s() * 1000) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 50, 50, 50]
    backoff.reset()
    assert backoff.next_s() == 0.001


def test_the_first_restart_is_at_once_the_next_ones_later_and_later() -> None:
    """Brokers that serve and die soon are started again after 0, 0.1, 0.2 seconds and so on, without a limit."""
    found = pauses(RestartPolicy(), *[DIED_SOON] * 20)
    assert found[:7] == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert found[7:] == [LAST_PAUSE_SECONDS] * 13


def test_a_stable_minute_makes_up_for_everything() -> None:
    """After a broker that served for a minute the next restart is at once again, however many there were before."""
    restarts = RestartPolicy()
    pauses(restarts, *[DIED_SOON] * 9)
    assert pauses(restarts, STABLE_SECONDS, DIED_SOON, DIED_SOON) == [0, 0.1, 0.2]
    assert pauses(restarts, STABLE_SECONDS - 0.1) == [0.4]


def test_starts_that_fail_are_tried_again_for_ever() -> None:
    """A failed start is always tried again, because its cause may be temporary, with pauses that grow to half a
    minute."""
    found = pauses(RestartPolicy(), DIED_SOON, *[None] * 20)
    assert found[:5] == [0, 0.1, 0.2, 0.4, 0.8]
    assert found[10:] == [LAST_PAUSE_OF_STARTS_SECONDS] * 11


@pytest.mark.parametrize("failures", [0, 1, 9])
def test_what_cannot_pass_is_given_up_at_once(failures: int) -> None:
    """A permanent cause, such as a wrong setting, is given up at once, however many starts failed before."""
    restarts = RestartPolicy()
    pauses(restarts, DIED_SOON, *[None] * failures)
    assert restarts.pause_s(None, can_pass=False) is None


@pytest.mark.parametrize("served", [0.0, DIED_SOON])
def test_a_start_that_succeeds_ends_the_long_pauses(served: float) -> None:
    """After many failed starts, one that serves is waited for again no longer than others that died."""
    restarts = RestartPolicy()
    pauses(restarts, *[None] * 20)
    assert pauses(restarts, served) == [LAST_PAUSE_SECONDS]
    assert restarts.failed_starts == 0


def test_a_cause_that_is_gone_makes_up_for_everything() -> None:
    """Without the model that ended the processes the next start is at once."""
    restarts = RestartPolicy()
    pauses(restarts, *[DIED_SOON] * 9)
    restarts.begin_again()
    assert pauses(restarts, DIED_SOON, DIED_SOON) == [0, 0.1]


class Host:
    """A clock, and brokers that serve for so long each; what it would look like from outside."""

    def __init__(self, served: list[float | None], start_s: float) -> None:
        self.now = 0.0
        self.starts: list[float] = []
        restarts = RestartPolicy()
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


def test_a_hiccup_of_ten_seconds_is_survived_soon() -> None:
    """A disk that fails every start for ten seconds costs at most as much again."""
    restarts, now = RestartPolicy(), 0.0
    pause = restarts.pause_s(3600.0)
    while now < 10:
        now += (pause or 0) + 0.3
        pause = restarts.pause_s(None)
    assert now < 20
