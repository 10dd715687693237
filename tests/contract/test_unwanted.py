"""Requests whose caller no longer waits, and which need not run."""

from __future__ import annotations

import pytest

from broker.data_plane.runner import Runner
from broker.data_plane.tracer import Tracer
from tests.contract.recording import Desk
from worker_client.attachment.retry_policy import Attempts, BrokerLost
from worker_client.wire.layout import DEADLINE_NS


def taken(deadline_ns: int = 1000) -> Desk:
    desk = Desk()
    desk.submit()
    desk.words[DEADLINE_NS] = deadline_ns
    desk.take()
    return desk


def test_a_request_past_its_deadline_is_unwanted() -> None:
    """A request is unwanted from its deadline on, without any action of the worker, which may be suspended."""
    desk = taken()
    assert not desk.broker.unwanted(999)
    assert desk.broker.unwanted(1000)
    assert desk.broker.unwanted(1001)


def test_a_request_of_a_closed_channel_is_unwanted() -> None:
    """A request is unwanted once its channel is closed, because its worker is gone."""
    desk = taken()
    desk.broker.channel.closed = True
    assert desk.broker.unwanted(1)


def test_a_cancelled_request_is_unwanted() -> None:
    """A cancellation left over from the slot's previous use does not count."""
    desk = taken()
    desk.worker.cancel(desk.worker.sequence - 1)
    assert not desk.broker.unwanted(1)
    desk.worker.cancel(desk.worker.sequence)
    assert desk.broker.unwanted(1)


def test_a_batch_of_which_nobody_waits_for_any(caplog: pytest.LogCaptureFixture) -> None:
    """A batch without any waiting caller is handed back; nothing is run or logged."""
    desks = [taken(deadline_ns=1), taken(deadline_ns=1)]
    runner = Runner(Tracer())
    runner.run([desk.broker for desk in desks])
    assert not runner.left
    assert not any(desk.broker.busy for desk in desks)
    assert not caplog.records


def test_a_request_that_a_closing_channel_drops_is_sent_again() -> None:
    """The worker may have lost only its descriptors, so the call goes to its next channel."""
    desk = taken()
    desk.broker.channel.closed = True
    Runner(Tracer()).run([desk.broker])
    with pytest.raises(BrokerLost) as lost:
        desk.worker.result()
    assert Attempts(1).after(lost.value).left == 1
