"""The broker's intake with a hostile and an honest channel, on real shared memory and semaphores, in this process.

    hostile memory  <-- cases, meddler
         |
    Intake.run ( scan -> Channel.take -> Slot.accept -> Runner ) until it has nothing to do
         |
    honest memory   untouched, and its worker's answers right

What is the intake's to raise for a lying worker is a Violation, which costs that worker its channel: a new one comes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np

from broker.config.settings import Settings
from broker.data_plane.channel import Channel
from broker.data_plane.intake import Intake
from broker.models.lifecycle.repository import load
from broker.scheduling.lightness import Lightness
from broker.sharing.memory import Memory
from tests.faults.fuzz.cases import Case
from tests.faults.fuzz.complaints import Complaints, complaints
from tests.faults.fuzz.models import REGION_BYTES, SPECS
from worker_client.attachment.slot import Slot
from worker_client.ipc.ring import RingProducer
from worker_client.ipc.segment import Segment
from worker_client.ipc.semaphore import Semaphore, drain, try_acquire, unlink
from worker_client.ipc.waiting import WaitMode
from worker_client.wire.layout import (
    ENTRIES_WORD,
    LINE,
    NO_DEADLINE,
    NOTIFY_SLOT,
    RING_END,
    RING_ENTRIES,
    SLOT_HEADER,
    TAIL_WORD,
    header_offset,
    input_offset,
    output_offset,
)
from worker_client.wire.tensors import TensorLayout, lay_out

SLOTS = 3
PATIENCE_S = 60.0
ROWS = 2


class _Idle(Exception):
    """The intake has nothing to do."""


class _Intake(Intake):
    """Raises where it would wait."""

    def _idle(self) -> None:
        raise _Idle


class HonestWorker:
    """The worker's own slot and ring on a channel's memory."""

    def __init__(self, channel: Channel, doorbell: Semaphore, signature_id: int) -> None:
        self._ring = RingProducer(channel.words, channel.submitted, doorbell)
        memory = channel.first_segment.bytes[RING_END:]
        sizes = SLOTS, REGION_BYTES, REGION_BYTES
        self._slots = [
            Slot(
                index,
                memory[header_offset(index) :][:SLOT_HEADER],
                memory[input_offset(index, *sizes) :][:REGION_BYTES],
                memory[output_offset(index, *sizes) :][:REGION_BYTES],
                channel.slots[index].completed,  # type: ignore[arg-type]
            )
            for index in range(SLOTS)
        ]
        self._id = signature_id
        self._layouts: dict[int, TensorLayout] = {}
        self._values = count(1)
        self._asked: list[tuple[Slot, np.ndarray]] = []

    def ask(self) -> None:
        """Submit one request in each slot, of 1 to 6 rows."""
        for slot in self._slots:
            value = next(self._values)
            rows = 1 + value % 6
            if rows not in self._layouts:
                self._layouts[rows] = lay_out([(np.dtype("float32"), (rows, 4))])
            (x,) = slot.input.write_layout(self._layouts[rows])
            x[...] = np.float32(value % 10_000) + np.arange(rows, dtype=np.float32)[:, None]
            self._asked.append((slot, x * 2))
            slot.prepare(self._id, NO_DEADLINE, NOTIFY_SLOT, value, 0)
            self._ring.push(slot)

    def check(self) -> None:
        """Every answer is there, and right."""
        for slot, expected in self._asked:
            assert try_acquire(slot.completed), "no answer"
            assert slot.done
            slot.busy = False
            (y,) = slot.result()
            assert y.shape == expected.shape
            assert (y == expected).all(), f"{y} in place of {expected}"
            assert not try_acquire(slot.completed), "two answers"
        self._asked.clear()


def _take(message: dict[str, Any], segment: Segment) -> None:
    """An output region on its way to the worker."""
    segment.close_fd()


class Target:
    """`hostile` is the channel to lie in; `submit` and `settle` are what its worker and the broker do then."""

    def __init__(self, heard: Complaints) -> None:
        self.complaints = heard
        self.prefix = f"/onesession.fuzz.{os.getpid()}."
        self.settings = Settings(
            models=tuple(SPECS), slots=SLOTS, max_slots=SLOTS, region_bytes=REGION_BYTES, address="/tmp/none"
        )
        self.memory = Memory(self.prefix, 1 << 28, 1 << 26)
        self.doorbell = self.memory.new_semaphore()
        unlink(self.doorbell)
        self.repository = load(SPECS, warm=False)
        self.intake = _Intake(self.repository, self.doorbell, WaitMode.BLOCK, self._on_violation)
        self.violations = 0
        self._numbers = count(1)
        for served in self.intake.served_signatures:
            if served is not None:
                served.light = True
        self.ids = {s.model: s.entry.id for s in self.intake.served_signatures if s is not None}
        self.honest = self._attach()
        self.worker = HonestWorker(self.honest, self.doorbell, self.ids["few"])
        self.hostile = self._attach()
        self._inputs = [slot.input.memory.cast("Q") for slot in self.hostile.slots]
        self.settle()
        self._honest_bytes = self._bytes_of_honest()

    def _bytes_of_honest(self) -> bytes:
        """All but the broker's line, which tells whether polling pays, and changes with the time."""
        return bytes(self.honest.first_segment.bytes[LINE:])

    def _attach(self) -> Channel:
        channel = Channel(
            next(self._numbers), os.getpid(), self.memory, self.settings, _take, failures=self.intake.failures
        )
        channel.unlink_names()
        channel.first_segment.close_fd()
        self.intake.add(channel)
        return channel

    def _on_violation(self, channel: Channel) -> None:
        assert channel is self.hostile, "an honest worker was cut off"
        self.violations += 1
        self.intake.remove(channel)  # what the control thread does when the connection has ended

    def write(self, index: int, case: Case) -> None:
        """Store what the case says in the hostile slot of this number."""
        words = self.hostile.slots[index].words
        for at, word in enumerate(case.header):
            words[at] = word
        words = self._inputs[index]
        for at, word in enumerate(case.table):
            words[at] = word

    def submit(self, *entries: int) -> None:
        """What RingProducer.push does, for any entries."""
        channel = self.hostile
        words, tail = channel.words, channel.ring.head
        for entry in entries:
            words[ENTRIES_WORD + tail % RING_ENTRIES] = entry
            tail += 1
            words[TAIL_WORD] = tail
            channel.submitted.release()

    def settle(self) -> None:
        """Let the intake go on until it would wait. Raises whatever should not be."""
        try:
            self.intake.run()
        except _Idle:
            pass
        if self.hostile.closed:
            self.hostile = self._attach()
            self._inputs = [slot.input.memory.cast("Q") for slot in self.hostile.slots]
            self.settle()
        self.complaints.check()

    def submit_anyhow(self, entries: list[int], tail: int, posts: int) -> None:
        """Entries wherever they fall, a tail that has nothing to do with them, and any number of posts."""
        channel = self.hostile
        words = channel.words
        for at, entry in enumerate(entries):
            words[ENTRIES_WORD + (channel.ring.head + at) % RING_ENTRIES] = entry
        words[TAIL_WORD] = tail
        for _ in range(posts):
            channel.submitted.release()

    def make_heavy(self) -> None:
        """Have every model run on threads of its own."""
        for served in self.intake.served_signatures:
            if served is not None:
                served._lightness = Lightness(
                    False, "", "inline = false"
                )  # which never comes back to this thread
                served.light, served._watch_ns = False, served._lightness.watch_ns

    def settle_all(self) -> None:
        """As `settle`, until the other threads have handed back what they run, too."""
        deadline = time.monotonic() + PATIENCE_S
        self.settle()
        while any(slot.busy for channel in (self.hostile, self.honest) for slot in channel.slots):
            assert time.monotonic() < deadline, "a request was never answered"
            time.sleep(0)
            self.settle()

    def check_untouched(self) -> None:
        """Nothing was written into the honest worker's memory while it did not ask."""
        assert self._bytes_of_honest() == self._honest_bytes, "another worker's memory has changed"

    def check_idle(self) -> None:
        """Every request was handed back, with its own number in DONE."""
        for slot in self.hostile.slots:
            assert not slot.busy, "a request was never answered"
        assert not self.intake._queue

    def check_honest(self) -> None:
        """The honest worker's calls are answered rightly, whatever waits in the other channel."""
        self.worker.ask()
        self.settle_all()
        self.worker.check()
        drain(self.doorbell)
        self._honest_bytes = self._bytes_of_honest()

    def forget_posts(self) -> None:
        """Take what has gathered on the hostile worker's semaphores."""
        for slot in self.hostile.slots:
            drain(slot.completed)
        drain(self.hostile.bell)

    def check_bounds(self) -> None:
        """What the broker remembers for a worker does not grow with what that worker sends."""
        for slot in self.hostile.slots:
            assert len(slot.input.prepared_requests) <= 64
            assert len(slot.output.places) <= 64
        for served in self.intake.served_signatures:
            assert served is None or len(served._groups) <= 4096

    def close(self) -> None:
        assert self.intake.join_runners(PATIENCE_S)
        self.intake.close()
        self.doorbell.close()
        del self.hostile, self.honest, self.worker, self._inputs  # with the last of them the memory goes


@contextmanager
def target() -> Iterator[Target]:
    """A target; its broker's complaints fail the test instead of being logged."""
    with complaints("intake", "runner") as heard:
        made = Target(heard)
        try:
            yield made
        finally:
            made.close()
