"""Which request an answer belongs to: a completion is for one use of its slot, and an answer names that use."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from broker.counters.failures import LATE_COMPLETION
from broker.data_plane.runner import Runner
from broker.data_plane.split import SplitRequest
from broker.data_plane.tracer import Tracer
from tests.contract.recording import SERVINGS, Desk
from worker_client.attachment.retry_policy import Attempts, BrokerLost, ForeignAnswer
from worker_client.calls.channel import Channel
from worker_client.wire.errors import BrokerError, BrokerUnavailable, ModelFailed
from worker_client.wire.layout import ANSWER_SEQUENCE, ANSWER_SIGNATURE, BULK, SEQUENCE

ANSWER = [np.full((2, 3), 7, np.float32)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def late(desk: Desk) -> int:
    return int(desk.broker.channel.failures.faults()[LATE_COMPLETION])


# -- the broker's side -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["complete", "fail"])
@pytest.mark.parametrize("when", ["after it", "in the next use"])
def test_a_use_is_handed_back_once(desk: Desk, how: str, when: str, caplog: pytest.LogCaptureFixture) -> None:
    """A completion of a use that was handed back writes nothing and posts nothing; it is counted, and logged with a
    stack trace."""
    desk.submit(value=1)
    desk.take()
    use = desk.broker.use
    desk.complete(value=1)
    if when == "in the next use":
        desk.completed.acquire(0)
        desk.worker.result()
        desk.submit(value=2)
        desk.take()
        assert desk.broker.busy
    desk.log.clear()
    posts, memory = desk.completed.count, bytes(desk.output)
    with caplog.at_level(logging.ERROR, "onesession.requests"):
        if how == "complete":
            desk.broker.complete(use, ANSWER, 3, 4, 2)
        else:
            desk.broker.fail(use, ModelFailed("late"))
    assert not [event for event in desk.log if "reads" not in event[0]]
    assert (desk.completed.count, bytes(desk.output)) == (posts, memory)
    assert late(desk) == 1
    assert "test_a_use_is_handed_back_once" in caplog.records[0].stack_info  # type: ignore[operator]
    if when == "in the next use":
        desk.complete(value=2)
        desk.completed.acquire(0)
        assert (desk.worker.result()[0] == 2).all()


def test_a_fault_of_the_broker_answers_the_request(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets an error instead of waiting forever."""

    def fault(*_: object) -> bool:
        raise ZeroDivisionError

    desk.submit()
    desk.take()
    monkeypatch.setattr(type(desk.broker), "unwanted", fault)
    Runner(Tracer()).run([desk.broker])
    desk.completed.acquire(0)
    with pytest.raises(BrokerError, match="the broker failed on this request: ZeroDivisionError"):
        desk.worker.result()


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
def test_what_raises_after_an_answer_reaches_no_other_request(
    desk: Desk, parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in counting, after the slots of a batch were handed back, does not fail the next request in any of
    them."""
    desk.submit(rows=4, value=1)
    desk.take()
    batch: Any = SplitRequest(desk.broker, 2).first_parts() if parts else [desk.broker]
    serving = SERVINGS[1]

    def next_request_comes(*_: object) -> None:
        if not desk.broker.busy:
            desk.completed.acquire(0)
            desk.submit(rows=4, value=2)
            desk.take()
        raise ZeroDivisionError

    monkeypatch.setattr(type(serving), "ran", next_request_comes)
    Runner(Tracer()).run(batch)
    assert desk.broker.busy
    assert desk.completed.count == 0
    assert late(desk) == 0


def test_a_part_is_completed_once(desk: Desk) -> None:
    """A part of a request that is completed twice does not count as another part."""
    desk.submit(rows=4)
    desk.take()
    first, second = SplitRequest(desk.broker, 2).first_parts()
    rows = [np.full((2, 3), 5, np.float32)]
    first.complete(first.use, rows, 1, 2, 2)
    first.complete(first.use, rows, 1, 2, 2)
    first.fail(first.use, ModelFailed("late"))
    assert (late(desk), desk.completed.count) == (2, 0)
    second.complete(second.use, rows, 1, 2, 2)
    assert desk.completed.count == 1


def test_a_request_without_a_sequence_is_in_hand_like_any_other(desk: Desk) -> None:
    """No client writes 0, which stands for a slot not in the broker's hands: it is answered, and handed back once."""
    desk.submit()
    desk.words[SEQUENCE] = 0
    desk.take()
    assert desk.broker.busy
    desk.complete()
    assert (desk.broker.busy, desk.completed.count) == (False, 1)


@pytest.mark.parametrize("outcome", ["complete", "fail"])
def test_an_answer_says_to_which_use_and_signature_it_is(desk: Desk, outcome: str) -> None:
    """Outputs and errors alike, before DONE is stored."""
    desk.submit()
    desk.take()
    desk.complete() if outcome == "complete" else desk.fail()
    head = memoryview(desk.output).cast("Q")
    assert head[ANSWER_SEQUENCE] == desk.worker.sequence
    assert head[ANSWER_SIGNATURE] == 1
    (done,) = desk.log.where("broker's slot stores", 16)
    assert max(desk.log.where("answer stores")) < done


# -- the worker's side -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [ANSWER_SEQUENCE, ANSWER_SIGNATURE])
@pytest.mark.parametrize("outcome", ["complete", "fail"])
def test_an_answer_to_something_else_is_never_returned(desk: Desk, word: int, outcome: str) -> None:
    """A worker that finds another use or signature in its output region raises an error that says so."""
    desk.submit()
    desk.take()
    desk.complete() if outcome == "complete" else desk.fail()
    memoryview(desk.output).cast("Q")[word] -= 1
    desk.completed.acquire(0)
    with pytest.raises(ForeignAnswer, match="slot 0 holds an answer to use"):
        desk.worker.result()


def test_no_two_slots_count_alike() -> None:
    """No two slots use the same numbers, so an answer in the wrong slot is noticed."""
    assert len({Desk().worker.sequence for _ in range(100)}) == 100


def test_how_often_a_call_with_another_answer_is_run_again() -> None:
    """It is run again as often as `retries` says; then its error says what was found."""
    error = ForeignAnswer("slot 3 holds an answer to use 8")
    assert error.ran
    assert Attempts(2).after(error).left == 1
    with pytest.raises(ForeignAnswer):
        Attempts(0).after(error)
    with pytest.raises(BrokerUnavailable, match=r"use 8.*was run again \(retries=2\)"):
        Attempts(2, 0).after(error)
    assert issubclass(ForeignAnswer, BrokerError)


def test_a_stateful_call_with_another_answer_is_not_run_again() -> None:
    """Its error is not retried; a call to a stateless signature is run again."""
    channel = object.__new__(Channel)
    channel.run_once = {7: "signature 'train' writes variable 'w'"}
    lost = ForeignAnswer("slot 3 holds an answer to use 8")
    error = channel._not_again(lost, 7 + BULK)
    assert not isinstance(error, BrokerLost)
    assert str(error).endswith("is not run again, because signature 'train' writes variable 'w'")
    assert channel._not_again(lost, 8) is lost
