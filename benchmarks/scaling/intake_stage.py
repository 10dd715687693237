"""What the broker's thread takes for n requests at once: its own intake, on real shared memory, in this process.

    n channels, a request in each  -->  Intake.run ( scan -> take -> run the model -> complete ) until it is idle

Nobody sleeps here, so no post wakes anybody: that is measured by itself (`waking.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic_ns

import numpy as np

from benchmarks.workloads import Checker, Workload
from broker.config.settings import Settings
from broker.data_plane.channel import Channel
from broker.data_plane.intake import Intake
from broker.models.lifecycle.repository import load
from broker.models.spec import ModelSpec
from broker.sharing.memory import Memory
from worker_client.attachment.slot import Slot
from worker_client.ipc.ring import RingProducer
from worker_client.ipc.semaphore import try_acquire, unlink
from worker_client.ipc.waiting import WaitMode
from worker_client.wire.layout import (
    COMPLETED_NS,
    FINISHED_NS,
    NO_DEADLINE,
    NOTIFY_SLOT,
    RING_END,
    SLOT_HEADER,
    STARTED_NS,
    header_offset,
    input_offset,
    output_offset,
)
from worker_client.wire.tensors import lay_out

REGION_BYTES = 1 << 16
WARM_UP = 20


class _Idle(Exception):
    """The intake has nothing to do."""


class _Intake(Intake):
    """Raises where it would wait."""

    def _idle(self) -> None:
        raise _Idle


class Stage:
    """An intake with so many channels, each of which has one slot."""

    def __init__(self, spec: ModelSpec, workload: Workload, channels: int) -> None:
        self._memory = Memory(f"/onesession.scaling.{os.getpid()}.", 1 << 28, 1 << 26)
        doorbell = self._memory.new_semaphore()
        unlink(doorbell)
        self._intake = _Intake(load([spec]), doorbell, WaitMode.BLOCK, _refuse)
        serving = next(each for each in self._intake.servings if each is not None)
        assert serving.light, f"{spec.name} is heavy: it has threads of its own"
        self._serving = serving
        self._id = serving.entry.id
        self._checker = Checker(workload)
        self._workload = workload
        settings = Settings(
            models=(spec,), slots=1, max_slots=1, region_bytes=REGION_BYTES, address="/tmp/none"
        )
        self._channels = [self._attach(number, settings) for number in range(channels)]
        x = workload.inputs[0]
        self._layout = lay_out([(x.dtype, x.shape)])
        self._workers = [(_slot_of(each), each) for each in self._channels]
        self._rings = [RingProducer(each.words, each.submitted, doorbell) for each in self._channels]
        self._doorbell = doorbell
        self._settle()

    def _attach(self, number: int, settings: Settings) -> Channel:
        channel = Channel(number, os.getpid(), self._memory, settings, lambda _message, _segment: None)
        channel.unlink_names()
        channel.first_segment.close_fd()
        self._intake.add(channel)
        return channel

    def _settle(self) -> None:
        try:
            self._intake.run()
        except _Idle:
            pass

    @property
    def runs(self) -> dict[int, int]:
        """So far, by their rows."""
        return self._serving.batch_rows()

    def time(self, requests: int, times: int) -> tuple[float, float, float]:
        """Median microseconds until the last of a batch is answered, of the model's run in it, and from the answer
        until nothing is left to do. Every answer is checked."""
        taken = [self._once(requests) for _ in range(times + WARM_UP)][WARM_UP:]
        answered, run, after = np.median(np.array(taken), axis=0) / 1e3
        return float(answered), float(run), float(after)

    def _once(self, requests: int) -> tuple[int, int, int]:
        slots = [slot for slot, _ in self._workers[:requests]]
        for number, slot in enumerate(slots):
            (view,) = slot.input.lay(self._layout)
            view[...] = self._workload.inputs[number % len(self._workload.inputs)]
            slot.prepare(self._id, NO_DEADLINE, NOTIFY_SLOT, monotonic_ns(), 0)
            self._rings[number].push(slot)
        start = monotonic_ns()
        self._settle()
        end = monotonic_ns()
        self._check(slots)
        if not requests:
            return 0, 0, end - start
        words = slots[0].words
        answered = max(slot.words[COMPLETED_NS] for slot in slots)
        return answered - start, words[FINISHED_NS] - words[STARTED_NS], end - answered

    def _check(self, slots: Sequence[Slot]) -> None:
        for number, slot in enumerate(slots):
            assert try_acquire(slot.completed), "no answer"
            slot.busy = False
            (y,) = slot.result()
            self._checker.check(number % len(self._workload.inputs), y)

    def close(self) -> None:
        del self._workers, self._rings
        self._intake.close()
        self._doorbell.close()


def _slot_of(channel: Channel) -> Slot:
    """The worker's end of the channel's only slot."""
    memory = channel.first_segment.bytes[RING_END:]
    sizes = 1, REGION_BYTES, REGION_BYTES
    return Slot(
        0,
        memory[header_offset(0) :][:SLOT_HEADER],
        memory[input_offset(0, *sizes) :][:REGION_BYTES],
        memory[output_offset(0, *sizes) :][:REGION_BYTES],
        channel.slots[0].completed,  # type: ignore[arg-type]
    )


def _refuse(channel: Channel) -> None:
    raise AssertionError(f"{channel!r} was refused")


@contextmanager
def stage(spec: ModelSpec, workload: Workload, channels: int) -> Iterator[Stage]:
    made = Stage(spec, workload, channels)
    try:
        yield made
    finally:
        made.close()
