"""The order in which each side stores and posts, on which the other side may rely once it has acquired."""

from __future__ import annotations

import numpy as np
import pytest

from tests.contract.recording import Desk, words_of
from worker_client.wire import layout
from worker_client.wire.errors import ModelFailed
from worker_client.wire.layout import (
    DONE,
    ENTRIES_WORD,
    HEAD_WORD,
    LINE_WORDS,
    NOTIFY_BELL,
    NOTIFY_SLOT,
    SEQUENCE,
    STATUS,
    TAIL_WORD,
)

REQUEST_LINE = words_of(SEQUENCE, LINE_WORDS)
COMPLETION_LINE = words_of(DONE, LINE_WORDS)
TIME_LINE = words_of(layout.TAKEN_NS, LINE_WORDS)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def taken(desk: Desk) -> Desk:
    """A request that the broker has taken and not answered; the log begins here."""
    desk.submit()
    desk.take()
    desk.log.clear()
    return desk


# -- worker to broker ----------------------------------------------------------------------------------------------


def test_inputs_then_request_line_then_entry_then_tail_then_submitted_then_doorbell(desk: Desk):
    """A worker stores table, request line, entry and tail in this order, and posts `submitted`, then the doorbell."""
    desk.submit()
    log = desk.log
    assert log.in_order(
        log.where("writes", "input"),
        log.where("worker's slot stores", *REQUEST_LINE),
        log.where("worker stores", ENTRIES_WORD),
        log.where("worker stores", TAIL_WORD),
        log.where("posts", "submitted"),
        log.where("posts", "doorbell"),
    )


def test_the_inputs_are_in_place_when_submitted_is_posted(desk: Desk):
    """At the post of `submitted` the tensors have their values."""
    seen: list[bytes] = []
    release = desk.submitted.release
    desk.submitted.release = lambda: (seen.append(bytes(desk.input)), release())  # type: ignore[method-assign]
    desk.submit(value=5)
    assert np.full((2, 3), 5, np.float32).tobytes() in seen[0]


def test_a_worker_stores_nothing_after_its_posts(desk: Desk):
    """After the post of `submitted` the slot is the broker's: the worker stores no word of slot or ring."""
    desk.submit()
    (posted,) = desk.log.where("posts", "submitted")
    assert {what for what, _ in desk.log[posted:]} == {"posts"}


def test_a_worker_writes_its_own_words_only(desk: Desk):
    """A worker stores its request line, tail and entry, and nothing on a line of the broker."""
    desk.submit()
    stored = {which for what, which in desk.log if what == "worker's slot stores"}
    assert stored <= set(REQUEST_LINE)
    assert {which for what, which in desk.log if what == "worker stores"} == {ENTRIES_WORD, TAIL_WORD}


def test_each_word_is_stored_once(desk: Desk):
    """No word is stored first with one value and then with another, so the other side sees no intermediate state."""
    desk.submit()
    desk.take()
    desk.complete()
    stores = [event for event in desk.log if event[0].endswith("stores")]
    assert len(stores) == len(set(stores))


def test_acquire_then_entry_then_head_then_slot(desk: Desk):
    """The broker reads an entry only after acquiring `submitted`, and the slot only after the entry."""
    desk.submit()
    desk.log.clear()
    desk.take()
    log = desk.log
    assert log.in_order(
        log.where("broker reads", TAIL_WORD),
        log.where("acquires", "submitted"),
        log.where("broker reads", ENTRIES_WORD),
        log.where("broker stores", HEAD_WORD),
        log.where("broker's slot reads"),
    )


# -- broker to worker ----------------------------------------------------------------------------------------------


def test_outputs_then_status_then_done_then_completed_then_bell(desk: Desk):
    """The broker stores outputs, the completion line, DONE, in this order, and posts `completed`, then the bell."""
    desk.submit(notify=NOTIFY_BELL)
    desk.take()
    desk.log.clear()
    desk.complete()
    log = desk.log
    before_done = [*(word for word in COMPLETION_LINE if word != DONE), *TIME_LINE]
    assert log.in_order(
        log.where("writes", "output"),
        log.where("broker's slot stores", *before_done),
        log.where("broker's slot stores", DONE),
        log.where("posts", "completed"),
        log.where("posts", "bell"),
    )


def test_the_outputs_are_in_place_when_done_is_stored(taken: Desk):
    """At the post of `completed` the outputs have their values."""
    seen: list[bytes] = []
    release = taken.completed.release
    taken.completed.release = lambda: (seen.append(bytes(taken.output)), release())  # type: ignore[method-assign]
    taken.complete(value=9)
    assert np.full((2, 3), 9, np.float32).tobytes() in seen[0]


def test_message_then_status_then_done_then_completed(taken: Desk):
    """An error is handed over in the same order as a result: its message, status, DONE, the post."""
    taken.fail()
    log = taken.log
    assert log.in_order(
        log.where("writes", "output"),
        log.where("broker's slot stores", STATUS),
        log.where("broker's slot stores", DONE),
        log.where("posts", "completed"),
    )
    taken.completed.acquire(0)
    with pytest.raises(ModelFailed, match=r": no$"):
        taken.worker.result()


@pytest.mark.parametrize("outcome", ["complete", "fail"])
def test_a_broker_touches_nothing_after_completed(taken: Desk, outcome: str):
    """After the post of `completed` the slot is the worker's: the broker neither reads nor stores a word of it."""
    taken.complete() if outcome == "complete" else taken.fail()
    (posted,) = taken.log.where("posts", "completed")
    assert taken.log[posted + 1 :] == []


def test_a_broker_writes_its_own_words_only(taken: Desk):
    """The broker stores its completion line and time line, and nothing on a line of the worker."""
    taken.complete()
    stored = {which for what, which in taken.log if what == "broker's slot stores"}
    assert stored <= {*COMPLETION_LINE, *TIME_LINE}


def test_the_broker_lets_go_before_the_worker_can_know(taken: Desk):
    """The slot is no longer busy when DONE is stored, so a fast worker may submit it again."""
    busy: list[bool] = []
    release = taken.completed.release
    taken.completed.release = lambda: (busy.append(taken.broker.busy), release())  # type: ignore[method-assign]
    taken.complete()
    assert busy == [False]


@pytest.mark.parametrize(("notify", "bells"), [(NOTIFY_SLOT, 0), (NOTIFY_BELL, 1)])
def test_the_bell_rings_for_whom_it_was_asked_for(desk: Desk, notify: int, bells: int):
    """The channel's bell is posted for futures only; `completed` is posted for both, once."""
    desk.submit(notify=notify)
    desk.take()
    desk.complete()
    assert (desk.completed.count, desk.bell.count) == (1, bells)


# -- a slot's next use ---------------------------------------------------------------------------------------------


def test_done_of_the_last_use_does_not_count_for_the_next(desk: Desk):
    """A slot used again is not done until the broker has answered this use."""
    for value in (1.0, 2.0, 3.0):
        desk.submit(value=value)
        assert not desk.worker.done
        desk.take()
        assert not desk.worker.done
        desk.complete(value=-value)
        assert desk.worker.done
        desk.completed.acquire(0)
        (result,) = desk.worker.result()
        assert (result == -value).all()


def test_a_cancel_counts_for_one_use(desk: Desk):
    """A cancelled use is unwanted; the next use of the slot is not."""
    desk.submit()
    desk.worker.cancel(desk.worker.sequence)
    desk.take()
    assert desk.broker.unwanted(0)
    desk.complete()
    desk.completed.acquire(0)
    desk.submit()
    desk.take()
    assert not desk.broker.unwanted(0)


def test_a_table_is_written_when_it_changes(desk: Desk):
    """Repeated shapes write no table on either side; another shape, or an error in between, makes it written again."""
    tables = []
    for rows in (2, 2, 5, 2):
        desk.log.clear()
        desk.submit(rows)
        desk.take()
        desk.complete()
        desk.completed.acquire(0)
        assert desk.worker.result()[0].shape == (rows, 3)
        tables.append((len(desk.log.where("writes", "input")), len(desk.log.where("writes", "output"))))
    assert tables == [(1, 1), (0, 0), (1, 1), (1, 1)]
    desk.submit(2)
    desk.take()
    desk.fail()
    desk.completed.acquire(0)
    desk.submit(2)
    desk.take()
    desk.complete(value=4)
    desk.completed.acquire(0)
    assert (desk.worker.result()[0] == 4).all()
