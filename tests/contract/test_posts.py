"""Which side posted: the worker's end of `completed`, where the model found that posts could be mixed up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.contract.recording import Desk, Posts, layout_of
from tests.contract.test_ring import Interruption
from worker_client.attachment import supply
from worker_client.attachment.retry_policy import Attempts
from worker_client.attachment.slot import Slot
from worker_client.calls import channel as channels
from worker_client.calls import futures
from worker_client.calls.channel import Channel
from worker_client.calls.futures import CallFuture, FutureDispatcher, PendingCall
from worker_client.interpreter import fork
from worker_client.ipc.waiting import PollOrBlock
from worker_client.wire.errors import DeadlineExceeded
from worker_client.wire.layout import DONE, NO_DEADLINE, NOTIFY_BELL, NOTIFY_SLOT, POLL_FREELY

PASSED = 1
"""A deadline that has passed long ago."""


class Worker:
    """A worker's channel with one slot; the test acts as the broker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.desk = desk = Desk()
        self.slot: Slot = desk.worker
        self.completed = desk.completed
        self.now_ns = 1_000_000_000
        for module in (channels, futures, supply):
            monkeypatch.setattr(module, "monotonic_ns", lambda: self.now_ns)
        made = self.channel = Channel.__new__(Channel)
        made.run_limits = {}
        parts: dict[str, Any] = {
            "alive": fork.new_word(),
            "process": fork.here(),
            "slots": [self.slot],
            "max_slots": 1,
            "event": None,
            "bell": desk.bell,
            "_free": deque([self.slot]),
            "_abandoned": deque(),
            "_claimers": 0,
            "_words": desk.ring_words,
            "_ring": desk.producer,
            "_push_lock": threading.Lock(),
            "_slow": threading.Condition(),
            "_output_regions": {},
            "_waiting": {POLL_FREELY: PollOrBlock()},
            "_link": SimpleNamespace(next_wake_ns=0, path="here", send=lambda message: None),
        }
        for name, part in parts.items():
            setattr(made, name, part)
        made.futures = FutureDispatcher(made)
        self.dispatcher = made.futures
        monkeypatch.setattr(self.dispatcher, "start", lambda deadline_ns: None)  # the test settles

    def claim(self) -> None:
        assert self.channel.claim(64, NO_DEADLINE) is self.slot

    def submit(self, deadline_ns: int = NO_DEADLINE) -> None:
        self.claim()
        self.channel.submit(self.slot, 1, deadline_ns)

    def submit_future(self, deadline_ns: int = NO_DEADLINE) -> CallFuture:
        self.claim()
        call = PendingCall(lambda call, lost: None, lambda call: None, None, deadline_ns, Attempts(1))
        call.finish = lambda outputs: "answer"
        future = call.new_future()
        self.dispatcher.submit(call, self.slot, 1)
        return future

    def store_done(self) -> None:
        """Do the broker's last store, before its post."""
        self.slot.words[DONE] = self.slot.sequence

    def count_extra(self) -> None:
        """Count a post of the watcher that it has not posted yet."""
        self.slot.extra_posts += 1

    def post(self) -> None:
        """Post, as the broker or the watcher does: the posts look alike."""
        self.completed.release()

    def at_acquire(self, number: int, action: Callable[[], None]) -> None:
        """Do this just before the worker's acquire of that number from now, counted from 1."""
        acquire, calls = self.completed.acquire, iter(range(1, 100))

        def acting(timeout: float | None = None) -> None:
            if next(calls) == number:
                action()
            acquire(timeout)

        self.completed.acquire = acting  # type: ignore[method-assign]

    @property
    def is_free(self) -> bool:
        return list(self.channel._free) == [self.slot] and not self.channel._abandoned


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(monkeypatch)


def in_time(posts: Posts, action: Callable[[], None]) -> Callable[[], None]:
    """In place of `completed.wait`: what happens while the caller blocks, and then its acquire."""

    def wait() -> None:
        action()
        posts.acquire(0)

    return wait


# -- waiting -------------------------------------------------------------------------------------------------------


def test_a_second_extra_post_is_not_the_answer(worker: Worker):
    """Two posts of the watcher, one late from the slot's last use, hand over nothing, even if DONE is set."""
    worker.submit(PASSED)
    worker.store_done()
    worker.count_extra()
    worker.post()
    worker.at_acquire(2, lambda: (worker.count_extra(), worker.post()))
    with pytest.raises(DeadlineExceeded):
        worker.channel._acquire(worker.slot, PASSED)
    assert worker.slot.busy
    worker.channel.release(worker.slot)
    worker.post()  # the broker's
    worker.channel._reap()
    assert worker.is_free
    assert worker.completed.count == 0


def test_extra_posts_before_the_answer(worker: Worker):
    """However many extra posts there are, the answer is there when one more than those was acquired."""
    worker.submit()
    worker.store_done()
    for _ in range(3):
        worker.count_extra()
        worker.post()
    worker.post()
    worker.channel._acquire(worker.slot, NO_DEADLINE)
    assert (worker.completed.count, worker.slot.extra_posts) == (0, 0)


def test_whoever_blocks_has_a_deadline(worker: Worker):
    """The deadline of a caller that has seen DONE but finds no post yet is watched only while it blocks."""
    watched: list[int] = []
    deadline = 5_000_000_000
    worker.channel._link.next_wake_ns = 0
    worker.submit(deadline)
    worker.store_done()

    def post() -> None:
        watched.append(worker.slot.deadline_ns)
        worker.post()

    worker.completed.wait = in_time(worker.completed, post)  # type: ignore[attr-defined]
    worker.channel._acquire(worker.slot, deadline)
    assert watched == [deadline]
    assert worker.slot.deadline_ns == NO_DEADLINE


def test_a_post_of_an_earlier_use_is_not_the_answer(worker: Worker):
    """A post while DONE holds the slot's last use is not taken for this use's answer."""
    worker.submit()
    worker.post()

    def answer() -> None:
        worker.store_done()
        worker.post()

    worker.completed.wait = in_time(worker.completed, answer)  # type: ignore[attr-defined]
    worker.channel._acquire(worker.slot, NO_DEADLINE)
    assert worker.slot.done


# -- reaping -------------------------------------------------------------------------------------------------------


def abandon(worker: Worker, extra: int = 0) -> None:
    """Submit, have so many extra posts counted, and leave."""
    worker.submit()
    worker.slot.extra_posts = extra
    worker.channel.release(worker.slot)


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_an_abandoned_slot_waits_for_all_of_its_posts(worker: Worker, extra: int):
    """It is free when the broker's post and every extra post were acquired, in any order."""
    abandon(worker, extra)
    worker.store_done()
    for _ in range(extra):
        worker.post()
        worker.channel._reap()
        assert not worker.is_free
    worker.post()
    worker.channel._reap()
    assert worker.is_free
    assert (worker.completed.count, worker.slot.extra_posts, worker.slot.busy) == (0, 0, False)


def test_an_abandoned_slot_is_not_reaped_before_done(worker: Worker):
    """As long as the broker has it, posts or not, an abandoned slot stays."""
    abandon(worker, extra=1)
    worker.post()
    worker.channel._reap()
    worker.now_ns += 10 * supply._POST_OVERDUE_NS
    worker.channel._reap()
    assert not worker.is_free
    worker.store_done()
    worker.post()
    worker.channel._reap()
    assert worker.is_free


@pytest.mark.parametrize("extra", [0, 1])
def test_a_post_that_was_acquired_and_not_counted(worker: Worker, extra: int):
    """A slot whose post was lost to a signal handler also comes back, once the post has been missing for long."""
    abandon(worker, extra)
    worker.store_done()
    for _ in range(extra):
        worker.post()
    worker.channel._reap()
    worker.now_ns += supply._POST_OVERDUE_NS - 1
    worker.channel._reap()
    assert not worker.is_free
    worker.now_ns += 1
    worker.channel._reap()
    assert worker.is_free


def test_a_post_is_missing_from_when_it_is_missed(worker: Worker):
    """How long ago the broker completed the slot says nothing: a reaper that was held up itself waits on."""
    abandon(worker)
    worker.store_done()
    worker.now_ns += 100 * supply._POST_OVERDUE_NS
    worker.channel._reap()
    assert not worker.is_free
    worker.post()
    worker.channel._reap()
    assert worker.is_free


def test_the_only_slot_comes_back_after_a_broken_off_push(worker: Worker):
    """If a signal handler interrupted a push before it rang, the next claim, which waits for its slot, rings for it."""
    worker.claim()
    worker.desk.submitted.raising.append((True, Interruption()))
    with pytest.raises(Interruption):
        worker.channel.submit(worker.slot, 1, NO_DEADLINE)
    worker.channel.release(worker.slot)
    assert worker.desk.doorbell.count == 0
    worker.channel._reap()
    assert worker.desk.doorbell.count == 1


# -- futures -------------------------------------------------------------------------------------------------------


def test_a_future_that_cannot_be_made_costs_no_slot(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """A signal handler that raises while the call enters its slot leaves that free."""

    def interrupted(*_: Any) -> None:
        raise Interruption

    monkeypatch.setattr(futures.PendingCall, "enter", interrupted)
    with pytest.raises(Interruption):
        worker.submit_future()
    assert worker.is_free


def test_a_submission_that_comes_late_rings(worker: Worker):
    """A future whose deadline passed before it was submitted is checked at once, whatever the broker does."""
    future = worker.submit_future(PASSED)
    assert worker.desk.bell.count == 1
    worker.dispatcher._settle_all()
    with pytest.raises(DeadlineExceeded):
        future.result(0)


def test_a_submission_in_time_does_not_ring(worker: Worker):
    """Only the broker rings the bell as long as the deadline has not passed."""
    worker.submit_future()
    assert worker.desk.bell.count == 0


def test_a_late_post_is_not_a_futures_answer(worker: Worker):
    """A late post of the watcher, for a call that waited in its thread, hands no answer to a future; the watcher also
    rings the bell, because the future may have taken its own post for this one."""
    future = worker.submit_future()
    worker.slot.notify = NOTIFY_SLOT  # as the deadline keeper has found it
    acquired: list[bool] = []
    release = worker.completed.release

    def reused() -> None:
        worker.slot.notify = NOTIFY_BELL
        worker.store_done()
        release()
        worker.dispatcher._settle_all()
        acquired.append(future.done())

    worker.completed.release = reused  # type: ignore[method-assign]
    worker.channel._post(worker.slot)
    assert acquired == [False]
    assert worker.desk.bell.count == 1
    worker.completed.release = release  # type: ignore[method-assign]
    worker.post()
    assert worker.channel.take_answer(worker.slot)


def test_a_broken_off_submission_and_the_dispatcher_release_once(worker: Worker):
    """If a signal handler interrupts a submission while the dispatcher settles its call, only one of the two releases
    the slot, and its next use is not taken for the old one."""
    worker.slot.input.write_layout(layout_of(2))
    worker.desk.doorbell.raising.append((True, Interruption()))
    settle_all = worker.dispatcher._settle_all
    take = worker.dispatcher._take

    def settled_first(call: Any) -> bool:
        worker.desk.take()
        worker.desk.complete()
        settle_all()
        return take(call)

    worker.dispatcher._take = settled_first  # type: ignore[method-assign]
    with pytest.raises(Interruption):
        worker.submit_future()
    assert worker.is_free
    assert len(worker.channel._free) == 1
