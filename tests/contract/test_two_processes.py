"""Ring and slots between two real processes that are held up at random: a forked worker, and the broker's side here."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from broker.counters.failures import Failures
from broker.data_plane.slot import Slot as BrokerSlot
from tests.contract.recording import REGION_BYTES, SERVINGS, layout_of
from worker_client.attachment.slot import Slot as WorkerSlot
from worker_client.ipc import semaphore
from worker_client.ipc.ring import EMPTY, RingConsumer, RingProducer
from worker_client.ipc.segment import Segment
from worker_client.wire.errors import ModelFailed
from worker_client.wire.layout import (
    NO_DEADLINE,
    NOTIFY_SLOT,
    RING_END,
    RING_ENTRIES,
    SLOT_HEADER,
    block_bytes,
    header_offset,
    input_offset,
    output_offset,
)

ENTRIES = 20_000  # 78 times around the ring
CALLS = 3_000
SLOTS = 5

Pause = Callable[[], None]

pytestmark = pytest.mark.timeout(
    300
)  # where others want the processors too, a turn given away costs a time slice


def pauses(seed: list[int]) -> Pause:
    """Pauses of random length: usually none, sometimes many yields."""
    turns = iter(np.random.default_rng(seed).geometric(0.5, 1 << 16).tolist())

    def pause() -> None:
        count = next(turns, 0)
        for _ in range(2 ** (count - 3) if count > 3 else 0):
            os.sched_yield()

    return pause


def new_semaphore(name: str) -> semaphore.Semaphore:
    made = semaphore.create(f"/onesession.contract.{os.getpid()}.{name}")
    semaphore.unlink(made)
    return made


class Shared:
    """What both processes have: the segment, the ring's semaphores, one `completed` a slot, and how the child does."""

    def __init__(self) -> None:
        sizes = SLOTS, REGION_BYTES, REGION_BYTES
        name = f"/onesession.contract.{os.getpid()}.segment"
        self.segment = Segment.create(name, RING_END + block_bytes(*sizes))
        self.words = self.segment.bytes.cast("Q")
        self.submitted, self.doorbell = new_semaphore("submitted"), new_semaphore("doorbell")
        self.room = new_semaphore("room")
        self.completed = [new_semaphore(f"completed{index}") for index in range(SLOTS)]
        self.failed = mmap.mmap(-1, 1)
        block = self.segment.bytes[RING_END:]
        self.parts = [
            (
                block[header_offset(index) :][:SLOT_HEADER],
                block[input_offset(index, *sizes) :][:REGION_BYTES],
                block[output_offset(index, *sizes) :][:REGION_BYTES],
                self.completed[index],
            )
            for index in range(SLOTS)
        ]

    def wait_for_doorbell(self) -> None:
        semaphore.acquire(self.doorbell)
        assert self.failed[0] == 0, "the worker failed; its traceback is on stderr"

    def close(self) -> None:
        self.parts.clear()
        self.words.release()
        self.segment.close()
        self.failed.close()


@pytest.fixture
def shared() -> Iterator[Shared]:
    made = Shared()
    yield made
    made.close()


@contextmanager
def forked(shared: Shared, work: Callable[[], None]) -> Iterator[None]:
    """Run `work` in a child, which must succeed by the end of the block. If it fails, it rings the doorbell."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            shared.failed[0] = 1
            shared.doorbell.release()
            os._exit(1)
    try:
        yield
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_every_entry_is_taken_once_and_in_order(shared: Shared, seed: int):
    """Many times around the ring, with both processes held up at random, what is taken is what was pushed."""
    sent = np.random.default_rng([seed, 0]).integers(0, RING_ENTRIES, ENTRIES).tolist()
    for _ in range(RING_ENTRIES):
        shared.room.release()

    def push_all() -> None:
        pause = pauses([seed, 1])
        producer = RingProducer(shared.words, shared.submitted, shared.doorbell)
        for index in sent:
            semaphore.acquire(shared.room)
            producer.push(SimpleNamespace(index=index, busy=False))  # type: ignore[arg-type]
            pause()

    taken: list[int] = []
    with forked(shared, push_all):
        pause = pauses([seed, 2])
        consumer = RingConsumer(shared.words, shared.submitted)
        while len(taken) < len(sent):
            shared.wait_for_doorbell()
            while (index := consumer.take()) != EMPTY:
                taken.append(index)
                shared.room.release()
                pause()
    assert taken == sent
    assert consumer.take() == EMPTY
    assert not semaphore.try_acquire(shared.submitted)


def rows_of(number: int) -> int:
    return 1 + number * 7 % 40


def fails(number: int) -> bool:
    return number % 11 == 3


def check(slot: WorkerSlot, number: int) -> None:
    semaphore.acquire(slot.completed)
    assert slot.done
    slot.busy = False
    if fails(number):
        with pytest.raises(ModelFailed, match=f": call {number}$"):
            slot.result()
        return
    (result,) = slot.result()
    assert result.shape == (rows_of(number), 3)
    assert (result == -number).all()


def test_what_is_in_a_slot_is_of_this_use(shared: Shared, seed: int):
    """Over thousands of calls, several in flight, neither side ever reads a tensor, shape or error of another use."""

    def call_all() -> None:
        pause = pauses([seed, 3])
        producer = RingProducer(shared.words, shared.submitted, shared.doorbell)
        slots = [WorkerSlot(index, *parts) for index, parts in enumerate(shared.parts)]  # type: ignore[arg-type]
        in_flight: dict[int, int] = {}
        for number in range(CALLS):
            slot = slots[number % SLOTS]
            if slot.index in in_flight:
                check(slot, in_flight[slot.index])
            (view,) = slot.input.write_layout(layout_of(rows_of(number)))
            view[...] = number
            slot.prepare(1, NO_DEADLINE, NOTIFY_SLOT, number, 0)
            producer.push(slot)
            in_flight[slot.index] = number
            pause()
        for index, number in in_flight.items():
            check(slots[index], number)

    with forked(shared, call_all):
        pause = pauses([seed, 4])
        consumer = RingConsumer(shared.words, shared.submitted)
        channel: Any = SimpleNamespace(
            number=1, closed=False, sessions=True, failures=Failures(), pid=os.getpid()
        )
        slots = [BrokerSlot(channel, index, *parts) for index, parts in enumerate(shared.parts)]
        number = 0
        while number < CALLS:
            shared.wait_for_doorbell()
            while (index := consumer.take()) != EMPTY:
                assert index == number % SLOTS
                slot = slots[index]
                assert slot.accept(SERVINGS, number)
                (feed,) = slot.prepared.feeds
                assert feed.shape == (rows_of(number), 3)
                assert (feed == number).all()
                pause()
                if fails(number):
                    slot.fail(slot.use, ModelFailed(f"call {number}"))
                else:
                    slot.complete(slot.use, [-feed], 1, 2, len(feed))
                number += 1
    assert consumer.take() == EMPTY
