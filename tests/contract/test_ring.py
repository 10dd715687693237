"""The ring's contract, on memory of one process and on shared memory, with semaphores of either kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.contract.recording import Desk, Item, Log, Posts
from worker_client.ipc import semaphore
from worker_client.ipc.ring import EMPTY, RingConsumer, RingProducer
from worker_client.ipc.segment import Segment
from worker_client.ipc.semaphore import Busy
from worker_client.wire.layout import ENTRIES_WORD, HEAD_WORD, RING_END, RING_ENTRIES, TAIL_WORD


class Ring:
    """Both ends of a ring in one process."""

    def __init__(self, words: memoryview, submitted: Any, doorbell: Any) -> None:
        self.words, self.submitted, self.doorbell = words, submitted, doorbell
        self.producer = RingProducer(words, submitted, doorbell)
        self.consumer = RingConsumer(words, submitted)

    def push(self, *indices: int) -> None:
        for index in indices:
            self.producer.push(Item(index))

    def take_all(self) -> list[int]:
        taken = []
        while (index := self.consumer.take()) != EMPTY:
            taken.append(index)
        return taken


def new_semaphore(name: str) -> semaphore.Semaphore:
    made = semaphore.create(f"/onesession.contract.{os.getpid()}.{name}")
    semaphore.unlink(made)
    return made


@pytest.fixture(params=["plain memory", "shared memory"])
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    if request.param == "plain memory":
        log = Log()
        yield Ring(memoryview(bytearray(RING_END)).cast("Q"), Posts(log, "submitted"), Posts(log, "doorbell"))
        return
    segment = Segment.create(f"/onesession.contract.{os.getpid()}.ring", RING_END)
    words = segment.bytes.cast("Q")
    yield Ring(words, new_semaphore("submitted"), new_semaphore("doorbell"))
    words.release()
    segment.close()


def test_a_new_ring_is_empty(ring: Ring):
    """Zeroed memory is an empty ring."""
    assert ring.consumer.take() == EMPTY


def test_entries_come_out_in_order(ring: Ring):
    """Each pushed entry is taken once, in order, and then the ring is empty."""
    ring.push(3, 1, 2, 1)
    assert ring.take_all() == [3, 1, 2, 1]


def test_a_ring_holds_every_slot_at_once(ring: Ring):
    """All RING_ENTRIES slots can be in the ring, wherever its tail stands."""
    for start in range(3):
        ring.push(*[0] * (start * 100))
        ring.take_all()
        ring.push(*range(RING_ENTRIES))
        assert ring.take_all() == list(range(RING_ENTRIES))


def test_a_ring_wraps_around(ring: Ring, rng: np.random.Generator):
    """Over many rounds of any lengths every entry is taken exactly once, in order."""
    for _ in range(300):
        indices = rng.integers(0, RING_ENTRIES, rng.integers(0, RING_ENTRIES + 1)).tolist()
        ring.push(*indices)
        assert ring.take_all() == indices


def test_a_doorbell_for_every_push(ring: Ring):
    """Each push posts the doorbell once, and taking does not touch it."""
    ring.push(1, 2, 3)
    ring.take_all()
    for _ in range(3):
        ring.doorbell.acquire(0)
    with pytest.raises(Busy):
        ring.doorbell.acquire(0)


def test_nothing_is_taken_without_an_acquire(ring: Ring):
    """A tail that is ahead of its post, as a poller may see it, is not an entry; nothing changes until the post."""
    ring.push(7)
    ring.submitted.acquire(0)  # as if the post were still to come
    assert ring.words[TAIL_WORD] == 1
    assert ring.consumer.take() == EMPTY
    assert (ring.consumer.head, ring.words[HEAD_WORD]) == (0, 0)
    ring.submitted.release()
    assert ring.consumer.take() == 7


def test_a_post_without_an_entry_is_no_entry(ring: Ring):
    """A surplus post yields nothing, and no entry is taken twice."""
    ring.submitted.release()
    assert ring.consumer.take() == EMPTY
    ring.push(5)
    assert ring.take_all() == [5]


@pytest.mark.parametrize("tail", [1, RING_ENTRIES + 1, 2**63, 2**64 - 1])
def test_a_lying_tail_gives_nothing_without_posts(ring: Ring, tail: int):
    """Without posts nothing is taken, whatever a worker stores as its tail."""
    ring.words[TAIL_WORD] = tail
    assert ring.consumer.take() == EMPTY


def test_a_lying_worker_cannot_move_the_head(ring: Ring):
    """The broker uses its own head: a worker that overwrites the shared head changes nothing."""
    ring.push(1, 2)
    ring.words[HEAD_WORD] = 2**64 - 1
    assert ring.take_all() == [1, 2]
    assert ring.words[HEAD_WORD] == 2


def test_any_entry_comes_out_as_it_is(ring: Ring):
    """An entry that is not a slot number is returned, and the caller must check it."""
    ring.push(0)
    ring.words[ENTRIES_WORD] = 2**64 - 1
    assert ring.consumer.take() == 2**64 - 1


# -- pushes that a signal handler interrupts -----------------------------------------------------------------------


class Interruption(Exception):
    """What a signal handler raises."""


def interrupt(desk: Desk, item: Item, which: str) -> None:
    """Push `item`; a signal handler raises right after the post of `which`, as CPython runs them after calls only."""
    getattr(desk, which).raising.append((True, Interruption()))
    with pytest.raises(Interruption):
        desk.producer.push(item)  # type: ignore[arg-type]
    assert item.busy


def take_all(desk: Desk) -> list[int]:
    taken = []
    while (index := desk.consumer.take()) != EMPTY:
        taken.append(index)
    return taken


@pytest.mark.parametrize("which", ["submitted", "doorbell"])
def test_an_interrupted_push_is_made_good_by_the_next(which: str):
    """Whichever post a push is interrupted after, the next push delivers both entries, once."""
    desk = Desk()
    interrupt(desk, Item(1), which)
    desk.producer.push(Item(2))
    assert take_all(desk) == [1, 2]
    assert desk.doorbell.count >= 1


@pytest.mark.parametrize("which", ["submitted", "doorbell"])
def test_an_interrupted_push_leaves_no_post_without_an_entry(which: str):
    """However often a push is interrupted, there is one post for each entry: one more would hand over an entry that is
    not written yet."""
    desk = Desk()
    for index in range(5):
        interrupt(desk, Item(index), which)
    desk.producer.push(Item(5))
    assert desk.submitted.count == 6
    assert take_all(desk) == list(range(6))
    assert desk.submitted.count == 0


def test_an_interrupted_push_rings_when_its_slot_is_wanted():
    """`ring_again` rings the doorbell once for an interrupted push that did not ring it."""
    desk = Desk()
    interrupt(desk, Item(1), "submitted")
    assert desk.doorbell.count == 0
    desk.producer.ring_again()
    desk.producer.ring_again()
    assert desk.doorbell.count == 1


def test_an_undisturbed_push_posts_once():
    """A push posts `submitted` and the doorbell once each, whatever happened to the push before."""
    desk = Desk()
    interrupt(desk, Item(1), "submitted")
    for index in (2, 3):
        desk.log.clear()
        desk.producer.push(Item(index))
        desk.producer.ring_again()
        assert [event for event in desk.log if event[0] == "posts"] == [
            ("posts", "submitted"),
            ("posts", "doorbell"),
        ]


def test_no_acquire_no_look():
    """A take that finds no post reads neither entry nor slot."""
    desk = Desk()
    desk.producer.push(Item(1))
    desk.submitted.count = 0
    desk.log.clear()
    assert desk.consumer.take() == EMPTY
    assert desk.log == [("broker reads", TAIL_WORD), ("finds nothing", "submitted")]


def test_what_the_broker_has_not_taken_is_known(ring: Ring):
    """Known entries stay right after the ring has wrapped, and for a slot that was taken and is pushed again."""
    for _ in range(3 * RING_ENTRIES):
        ring.push(5)
        assert ring.consumer.take() == 5
    ring.push(3, 5, 4)
    assert ring.consumer.take() == 3
    assert {index: ring.producer.is_taken(Item(index)) for index in (3, 4, 5, 6)} == {
        3: True,
        4: False,
        5: False,
        6: True,
    }
