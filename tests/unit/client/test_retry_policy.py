"""How long a call waits for a missing broker, and its error in the end, on the test's own clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from worker_client.attachment.retry_policy import (
    AttachPolicy,
    Attempts,
    BrokerLost,
    ForeignAnswer,
    ModelReplaced,
    NoReply,
    NotListening,
)
from worker_client.wire.errors import BrokerError, BrokerUnavailable, DeadlineExceeded
from worker_client.wire.layout import NO_DEADLINE

PATH = Path("/run/x.sock")
SECOND = 1_000_000_000
Failure = Callable[[], BrokerUnavailable]


def absent() -> BrokerUnavailable:
    return NotListening("nobody listens")


def hung_up() -> BrokerUnavailable:
    return BrokerLost("hung up")


def no_answer() -> BrokerUnavailable:
    return NoReply("did not answer")


class Waiting:
    """A call that tries to attach, on a clock that only its pauses move."""

    def __init__(self, timeout_s: float, expected: bool) -> None:
        deadline = NO_DEADLINE if timeout_s == float("inf") else int(timeout_s * SECOND)
        self.patience = AttachPolicy(PATH, deadline, expected)
        self.now_ns = 0
        self.tries = 0

    def meet(self, failure: Failure, times: int = 1_000_000) -> BrokerError | None:
        """Fail this often to attach. Returns the error of the call, None if it still waits."""
        for _ in range(times):
            self.tries += 1
            try:
                pause = self.patience.pause_s(failure(), self.now_ns)
            except BrokerError as error:
                return error
            self.now_ns += round(pause * SECOND)
        return None


@pytest.mark.parametrize("failure", [absent, hung_up])
def test_a_broker_that_went_away_is_waited_for_until_the_deadline(failure: Failure) -> None:
    """Tries follow each other in 1 to 50 ms; at the deadline the call learns address and remedy."""
    waiting = Waiting(2.0, expected=True)
    told = waiting.meet(failure)
    assert type(told) is BrokerUnavailable
    assert str(PATH) in str(told)
    assert "onesession serve" in str(told)
    assert "did not come back within the call's timeout" in str(told)
    assert waiting.now_ns == pytest.approx(2 * SECOND, abs=5)
    assert 40 < waiting.tries < 60


def test_an_expected_broker_that_does_not_answer_in_time_is_unavailable() -> None:
    """If an expected broker listens but does not answer before the deadline, the error is BrokerUnavailable."""
    waiting = Waiting(1.0, expected=True)
    waiting.now_ns = SECOND
    assert type(waiting.meet(no_answer)) is BrokerUnavailable


def test_no_deadline_is_no_end() -> None:
    """Without a time-out a call waits for its broker for as long as it takes, at 50 ms a try."""
    waiting = Waiting(float("inf"), expected=True)
    assert waiting.meet(absent, times=10_000) is None
    assert waiting.now_ns > 490 * SECOND


def test_where_no_broker_was_met_a_call_is_told_at_once() -> None:
    """If no broker was met and no process listens, there is one try, and its error is raised unchanged."""
    waiting = Waiting(60.0, expected=False)
    assert isinstance(waiting.meet(absent), NotListening)
    assert (waiting.tries, waiting.now_ns) == (1, 0)


def test_a_stranger_that_hangs_up_gets_one_more_try() -> None:
    """A listener that hangs up twice is not a broker; the error does not let the call be run again."""
    waiting = Waiting(60.0, expected=False)
    told = waiting.meet(hung_up)
    assert isinstance(told, BrokerUnavailable)
    assert not isinstance(told, BrokerLost)
    assert (waiting.tries, waiting.now_ns) == (2, 0)


def test_a_stranger_that_does_not_answer_in_time_is_a_missed_deadline() -> None:
    """A first call that a listener keeps waiting gets DeadlineExceeded."""
    waiting = Waiting(1.0, expected=False)
    waiting.now_ns = SECOND
    assert isinstance(waiting.meet(no_answer), DeadlineExceeded)


# -- runs ----------------------------------------------------------------------------------------------------------


def runs(retries: int, *ran: bool) -> int | str:
    """Lose brokers, each after the call was handed over or before. Returns the runs left, or the error of the call."""
    attempts = Attempts(retries)
    for given in ran:
        try:
            attempts = attempts.after(BrokerLost("it went away", given))
        except BrokerUnavailable as error:
            return str(error)
    return attempts.left


def test_a_call_is_run_once_more() -> None:
    """By default a call survives one loss; the error after the second says how often it was run."""
    assert runs(1, True) == 0
    assert "it was run once more (retries=1), with the same end" in str(runs(1, True, True))
    assert "it was run 2 times more (retries=2)" in str(runs(2, True, True, True))


def test_only_runs_count() -> None:
    """A broker that goes away before it was handed the call costs no run, however often."""
    assert runs(1, False, False, True, False, False) == 0


@pytest.mark.parametrize("ran", [False, True])
def test_no_retries_is_none(ran: bool) -> None:
    """With retries=0 the error of the first loss is raised unchanged."""
    assert runs(0, ran) == "it went away"


def test_runs_after_a_brokers_death_are_limited() -> None:
    """Only those that had begun count. With retries=0 the error is raised as it is."""
    ran, waited = BrokerLost("gone", ran=True), BrokerLost("gone")
    assert [Attempts(2, left).after(waited).left for left in (2, 1, 0)] == [2, 1, 0]
    assert [Attempts(2, left).after(ran).left for left in (2, 1)] == [1, 0]
    with pytest.raises(BrokerUnavailable, match=r"it was run 2 times more \(retries=2\)"):
        Attempts(2, 0).after(ran)
    with pytest.raises(BrokerUnavailable, match="once more"):
        Attempts(1, 0).after(ran)
    for lost in (ran, waited):
        with pytest.raises(BrokerLost, match="^gone$"):
            Attempts(0).after(lost)


def test_runs_after_a_foreign_answer_are_limited() -> None:
    """As after a broker's death."""
    found = ForeignAnswer("another's")
    assert Attempts(1).after(found).left == 0
    with pytest.raises(BrokerUnavailable, match=r"another's: .*run again \(retries=1\)"):
        Attempts(1, 0).after(found)
    with pytest.raises(ForeignAnswer):
        Attempts(0).after(found)


def test_a_call_whose_version_is_gone_is_always_tried_again() -> None:
    """It was not run and no broker died, so retries=0 does not forbid it."""
    assert Attempts(0).after(ModelReplaced("gone")).left == 0
