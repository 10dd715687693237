"""The broker's end of one worker's channel: its segments, semaphores, ring and slots."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from broker.config.settings import Settings
from broker.counters.counted import counted
from broker.counters.failures import Failures
from broker.data_plane.region import InputRegion
from broker.data_plane.served_signature import ServedSignature
from broker.data_plane.slot import Slot
from broker.sharing.access import give
from broker.sharing.memory import Account, Memory
from worker_client.ipc import semaphore
from worker_client.ipc.event import DuplicatedFd, EventSource
from worker_client.ipc.ring import EMPTY, RingConsumer
from worker_client.ipc.segment import Segment
from worker_client.ipc.semaphore import Semaphore
from worker_client.wire.errors import BrokerError, BrokerUnavailable, InvalidInput, Overloaded
from worker_client.wire.layout import (
    LEAVING,
    MAX_REGION,
    POLL_NOT,
    POLL_WORD,
    RING_END,
    RING_ENTRIES,
    SLOT_HEADER,
    block_bytes,
    header_offset,
    input_offset,
    output_offset,
)

PushOutput = Callable[[dict[str, Any], Segment], None]


class Violation(BrokerError):
    """A worker wrote something that no client writes. Its channel is closed; other workers are not affected."""


class WorkerLeft(BrokerError):
    """A worker has given up its channel without being able to say so over its socket."""


class Channel:
    """One worker's channel. The control thread creates and grows it; the intake thread serves and disposes of it."""

    def __init__(
        self,
        number: int,
        pid: int,
        memory: Memory,
        settings: Settings,
        push: PushOutput,
        uid: int | None = None,
        failures: Failures | None = None,
        sessions: bool = True,
        process: Hashable = None,
    ) -> None:
        self.number = number
        self.pid = pid
        self._uid = os.geteuid() if uid is None else uid
        self.failures = failures or Failures()
        self.sessions = sessions  # the worker may run tensors that a session asked for
        self.closed = False  # the worker is gone: its waiting requests need not run
        self.last_taken_ns = 0
        self.requests = 0
        self.event: EventSource | None = None  # for workers that wait in an event loop
        self.disconnect: Callable[[], None] = lambda: None  # closes the worker's connection; for any thread
        self.slots: list[Slot] = []
        self._settings = settings
        self._memory = memory
        self._push = push
        self._account: Account = memory.account(process)
        self._semaphores: list[Semaphore] = []
        self._named: dict[str, Semaphore] = {}  # the semaphores that the worker has not opened yet
        self._regions: dict[tuple[int, str], int] = {}
        try:
            segment = self._account.new_segment(settings.first_segment_bytes)
            self.words = segment.bytes.cast("Q")
            self.words[POLL_WORD] = POLL_NOT
            self.submitted, self.bell = self._new_semaphore(), self._new_semaphore()
            self.ring = RingConsumer(self.words, self.submitted)
            self.first_segment = segment
            self.first_block = self._add_block(segment, RING_END)
        except BaseException:
            self.dispose()
            raise

    def __repr__(self) -> str:
        return f"<Channel {self.number} of pid {self.pid}>"

    def leave_process(self) -> None:
        """Stop counting in the budget of the worker's process: the connection has ended."""
        self._account.leave_process()

    # -- intake thread -------------------------------------------------------------------------------------------

    def take(self, served_signatures: Sequence[ServedSignature | None], now_ns: int) -> Slot | None:
        """The next submitted request, read and checked; None if there is none. Raises Violation, WorkerLeft."""
        left = RING_ENTRIES  # bounds the refused requests that a worker can have handled in one turn
        while left and (index := self.ring.take()) != EMPTY:
            left -= 1
            if index == LEAVING:
                raise WorkerLeft(f"worker {self.pid} has given up its channel, whose descriptors it has lost")
            if index >= len(self.slots) or (slot := self.slots[index]).use:
                raise Violation(f"worker {self.pid} submitted slot {index}, which it does not own")
            self.last_taken_ns = now_ns
            self.requests += 1
            if slot.accept(served_signatures, now_ns):
                return slot
        return None

    def allow_polling(self, how: int) -> None:
        """POLL_FREELY, POLL_NOT or POLL_GIVING_WAY."""
        self.words[POLL_WORD] = how

    @property
    def idle(self) -> bool:
        return not any(slot.busy for slot in self.slots)

    def dispose(self) -> None:
        """Close what the channel holds. Only once it is idle and removed from the intake."""
        self.closed = True
        self.unlink_names()
        for item in self._semaphores:
            item.close()
        if self.event is not None:
            self.event.close()
        self.slots = []  # they refer to us: without them, the last reference to the channel frees the memory
        self._account.close()

    # -- control thread ------------------------------------------------------------------------------------------

    def add_slots(self) -> tuple[dict[str, Any], Segment]:
        """Another block of slots. Raises Overloaded at `max_slots` or past a budget."""
        settings = self._settings
        if len(self.slots) >= settings.max_slots:
            raise Overloaded(f"a worker has at most {counted(settings.max_slots, 'slot')}; raise max_slots")
        count = min(settings.slots, settings.max_slots - len(self.slots))
        segment = self._account.new_segment(block_bytes(count, settings.region_bytes, settings.region_bytes))
        semaphores = len(self._semaphores)
        try:
            return self._add_block(segment, 0, count), segment
        except BaseException:
            self._take_back(semaphores, segment)
            raise

    def grow_input(self, index: Any, nbytes: Any) -> Segment:
        """A larger input region for a slot that the worker has claimed. Raises Overloaded or InvalidInput."""
        slot = self._slot(index)
        if not isinstance(nbytes, int) or not 0 < nbytes <= MAX_REGION or slot.busy:
            raise InvalidInput(f"slot {index} cannot get an input region of {nbytes!r} bytes")
        segment = self._new_region(slot, "input", nbytes)
        slot.input = InputRegion(segment.bytes)
        return segment

    def shrink(self, index: Any) -> int:
        """Give a slot that the worker has claimed its first regions again. Returns the number of its output region."""
        slot = self._slot(index)
        if slot.busy:
            raise InvalidInput(f"slot {index} cannot get other regions while it is in use")
        for side in ("input", "output"):
            self._account.give(self._regions.pop((slot.index, side), 0))
        return slot.go_back()

    def lend_event(self) -> DuplicatedFd:
        """The event that the worker's event loop waits for instead of a semaphore. Raises Overloaded."""
        try:
            if self.event is None:
                self.event = EventSource()
            return self.event.lend()
        except OSError as error:
            raise Overloaded(
                f"the broker cannot make an event ({error.strerror}); raise its `ulimit -n`, and make "
                "sure that it has /proc"
            ) from None

    def unlink_names(self, names: Iterable[str] | None = None) -> None:
        """Unlink the names of these semaphores, because the worker has opened them, or will not open any more."""
        for name in list(self._named if names is None else names):
            opened = self._named.pop(name, None)
            if opened is not None:
                semaphore.unlink(opened)

    @property
    def used_bytes(self) -> int:
        return self._account.used_bytes

    # -- any thread that completes a request ---------------------------------------------------------------------

    def new_output(self, slot: Slot, nbytes: int, region: int) -> memoryview:
        """A larger output region, announced to the worker as number `region` of the slot."""
        if self.closed:
            raise BrokerUnavailable("the connection to the broker was closed")
        segment = self._new_region(slot, "output", nbytes)
        self._push({"op": "output", "slot": slot.index, "region": region, "nbytes": segment.nbytes}, segment)
        return segment.bytes

    def _new_region(self, slot: Slot, side: str, nbytes: int) -> Segment:
        """A new region. The region that it replaces is no longer counted: both sides free it with the last view of
        it."""
        key = slot.index, side
        segment = self._account.new_region(nbytes, replaced=self._regions.get(key, 0))
        self._regions[key] = segment.nbytes
        return segment

    def _slot(self, index: Any) -> Slot:
        if not isinstance(index, int) or not 0 <= index < len(self.slots):
            raise InvalidInput(f"there is no slot {index!r}")
        return self.slots[index]

    def _new_semaphore(self) -> Semaphore:
        made = self._memory.new_semaphore()
        self._semaphores.append(made)
        self._named[made.name] = made
        give(made, self._uid)
        return made

    def _take_back(self, semaphores: int, segment: Segment) -> None:
        """Undo a block that the worker does not know of yet: close its memory, and the semaphores beyond the first
        `semaphores`."""
        self.unlink_names(item.name for item in self._semaphores[semaphores:])
        del self._semaphores[semaphores:]
        self._account.give_back(segment)

    def _add_block(self, segment: Segment, start: int, count: int | None = None) -> dict[str, Any]:
        count = count or self._settings.slots
        nbytes = self._settings.region_bytes
        memory = segment.bytes[start:]
        first = len(self.slots)
        made: list[Slot] = []
        for index in range(count):
            completed = self._new_semaphore()
            header = memory[header_offset(index) :][:SLOT_HEADER]
            region_in = memory[input_offset(index, count, nbytes, nbytes) :][:nbytes]
            region_out = memory[output_offset(index, count, nbytes, nbytes) :][:nbytes]
            made.append(Slot(self, first + index, header, region_in, region_out, completed))
        self.slots += made
        return {
            "first": first,
            "offset": start,
            "count": count,
            "input_bytes": nbytes,
            "output_bytes": nbytes,
            "completed": [slot.completed.name for slot in made],
        }
