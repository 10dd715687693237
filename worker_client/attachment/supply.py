"""The slots of one attached process: free slots, requests for more or larger slots, and abandoned slots that come back
late.

Any thread may claim a slot, which then belongs to that thread until it releases it. If the broker has not completed the
slot by then, the slot is abandoned, and becomes free when the broker completes it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from worker_client.attachment.attachment import Attachment
from worker_client.attachment.link import ControlLink, Received
from worker_client.attachment.retry_policy import NoReply
from worker_client.attachment.slot import Slot
from worker_client.interpreter.condition import Condition
from worker_client.ipc import semaphore
from worker_client.ipc.segment import Segment
from worker_client.system.clock import monotonic_ns
from worker_client.system.descriptor import Descriptor
from worker_client.wire import control
from worker_client.wire.errors import BrokerError, DeadlineExceeded, InvalidInput, Overloaded
from worker_client.wire.layout import (
    NO_DEADLINE,
    SLOT_HEADER,
    header_offset,
    input_offset,
    output_offset,
)

_OPENED_SECONDS = 0.1  # how long to try to report that the semaphores are open
_MAX_SLOTS_ADVICE = "send less at a time or raise the broker's max_slots"
_POST_OVERDUE_NS = 100_000_000


class SlotSupply(Attachment):
    """An attachment with slots to claim."""

    def __init__(self, link: ControlLink, reply: control.Message, fd: Descriptor, deadline_ns: int) -> None:
        super().__init__(link, reply, fd, deadline_ns)
        self.max_slots: int = reply["max_slots"]
        self.slots: list[Slot] = []
        self._free: deque[Slot] = deque()
        self._abandoned: deque[Slot] = deque()
        self._grower = 0  # the thread that asks for more slots
        self._slow = Condition()  # wakes threads that wait for a slot or for an output region
        self._claimers = 0
        # a block that could not be mapped yet
        self._left_block: tuple[control.Message, Received] | None = None
        self._no_more_slots = ""  # why the broker refused another block
        self._output_regions: dict[int, tuple[int, Segment | BrokerError]] = {}  # announced, not bound yet
        self._add_block(reply["block"], self._segments[0], deadline_ns, (reply["bell"], reply["submitted"]))

    def claim(self, nbytes: int, deadline_ns: int) -> Slot:
        """A slot whose input region holds `nbytes`. Raises Overloaded or BrokerUnavailable."""
        if self._abandoned:
            self._reap()
        try:
            # One instruction takes the slot, and the next one stores it. After a call of pop() a signal handler could
            # run, and lose it; between `free[-1]` and `del free[-1]` another thread, if a debugger traces.
            for slot in iter(self._free.pop, None):  # noqa: B007
                break
        except IndexError:
            slot = self._claim_slowly(deadline_ns)
        try:
            if self._output_regions:
                self._check_output(slot)
            if nbytes > slot.input.nbytes:
                self._grow(slot, nbytes, deadline_ns)
        except BaseException:
            self.release(slot)
            raise
        return slot

    def claim_at_once(self, nbytes: int) -> Slot | None:
        """A free slot that is large enough, or None."""
        if self._abandoned:
            self._reap()
        free = self._free
        for _ in range(len(free)):
            try:
                for slot in iter(free.pop, None):  # noqa: B007 - as in `claim`
                    break
            except IndexError:
                return None
            try:
                if self._output_regions:
                    self._check_output(slot)
            except BaseException:
                self.release(slot)
                raise
            if slot.input.nbytes >= nbytes:
                return slot
            free.appendleft(slot)
        return None

    def make_room(self, nbytes: int, deadline_ns: int) -> None:
        """Ask the broker for a free slot of this size, without waiting for a slot in use. The slot stays free for the
        next claim, because the event loop that asked may be closed meanwhile."""
        slot = self.claim_at_once(0)
        if slot is None and self._more_slots(deadline_ns):
            slot = self.claim_at_once(0)
        if slot is None:
            return
        try:
            if nbytes > slot.input.nbytes:
                self._grow(slot, nbytes, deadline_ns)
        finally:
            self.release(slot)
            self.listeners.notify_waiting()

    @property
    def is_growing(self) -> bool:
        """Whether a thread is asking for more slots; event loops that wait for a slot are woken when it is done."""
        return self._grower != 0

    @property
    def has_free(self) -> bool:
        """Whether a slot is free, or may be free by now."""
        return bool(self._free or self._abandoned)

    @property
    def may_grow(self) -> bool:
        """Whether `claim` would not have to wait for a slot in use."""
        return bool(self._free) or (len(self.slots) < self.max_slots and not self._no_more_slots)

    def release(self, slot: Slot) -> None:
        """Give a slot back, in whatever state it is."""
        if slot.busy or slot.extra_posts:
            if not self.ours:
                return
            slot.deadline_ns = NO_DEADLINE
            slot.missing_ns = 0
            slot.cancel(slot.sequence)
            self._abandoned.append(slot)
            if not slot.busy:
                self._reap()
        else:
            self._free.append(slot)
        if not self.alive[0]:  # no call claims it any more, and handles may keep the closed channel alive
            self._free.clear()
            self._abandoned.clear()
        elif self._claimers:
            with self._slow:
                self._slow.notify()

    def _claim_slowly(self, deadline_ns: int) -> Slot:
        while True:
            self._await_free(deadline_ns)
            try:
                for slot in iter(self._free.pop, None):  # as in `claim`
                    return slot
            except IndexError:
                pass  # another thread was faster

    def _await_free(self, deadline_ns: int) -> None:
        with self._slow:
            self._claimers += 1
        try:
            while not self._free:
                if not self.open:
                    raise self.gone()
                if self._abandoned:
                    self._reap()
                if not self._free and not self._more_slots(deadline_ns):
                    self._wait_for_release(deadline_ns)
        finally:
            with self._slow:
                self._claimers -= 1

    def all_in_flight(self) -> Overloaded:
        """The error for a call that got no slot."""
        slots = "the only slot" if len(self.slots) == 1 else f"all {len(self.slots)} slots"
        return Overloaded(
            f"{slots} of this worker {'was' if len(self.slots) == 1 else 'were'} in flight until the deadline; "
            f"{self._no_more_slots or _MAX_SLOTS_ADVICE}"
        )

    def _wait_for_release(self, deadline_ns: int) -> None:
        left = (deadline_ns - monotonic_ns()) / 1e9
        if left <= 0:
            raise self.all_in_flight()
        with self._slow:
            # The slots that another thread asked for may have come, or been refused, just before this thread waits.
            settled = not self._grower and not self._no_more_slots and len(self.slots) < self.max_slots
            if not self._free and self.open and not settled:
                # Abandoned slots come back without a notification, so check them from time to time.
                self._slow.wait(min(left, 0.05) if self._abandoned else left)

    # -- more, and larger ones -----------------------------------------------------------------------------------------

    def _more_slots(self, deadline_ns: int) -> bool:
        """Ask for another block, one thread at a time. False if the maximum is reached, or if another thread is
        already asking."""
        me = threading.get_ident()
        try:
            with self._slow:
                if self._free:
                    return True
                if not self.open:
                    raise self.gone()
                if len(self.slots) >= self.max_slots or self._grower not in (0, me):
                    return False
                self._grower = me
            try:
                reply, received = self._left_block or self._ask({"op": "slots"}, deadline_ns, brings=True)
            except Overloaded as error:
                self._no_more_slots = f"more could not be made: {error}"
                return False
            except DeadlineExceeded:
                if self._no_more_slots:  # the broker refused earlier, within the deadline
                    return False
                raise
            try:
                self._map_block(reply, received, deadline_ns)
            except Overloaded as error:
                if not received[-1].ours:
                    self._left_block = None
                self._no_more_slots = f"more could not be made: {error}"
                return False
            return True
        finally:
            if self._grower == me:
                with self._slow:
                    self._grower = 0
                    self._slow.notify_all()
                self.listeners.notify_waiting()

    def _map_block(self, reply: control.Message, received: Received, deadline_ns: int) -> None:
        """Map a new block. The broker sends a block only once, so a block that cannot be mapped now is kept for the
        next time."""
        self._left_block = reply, received
        try:
            completed = self._open_all(reply["block"], deadline_ns)
            segment = self._mapped(received[-1], reply["nbytes"])
        except BrokerError:
            # a caller that keeps the error keeps its traceback, and would keep the descriptors
            if not self.open:
                self._left_block = None
                for descriptor in received:
                    descriptor.close()
            raise
        self._left_block = None
        self._segments.append(segment)
        self._add_block(reply["block"], segment, deadline_ns, completed=completed)

    def _open_all(self, block: dict[str, Any], deadline_ns: int) -> list[semaphore.WaitableSemaphore]:
        return [self._opened(name, deadline_ns) for name in block["completed"]]

    def _add_block(
        self,
        block: dict[str, Any],
        segment: Segment,
        deadline_ns: int,
        opened: Sequence[str] = (),
        completed: Sequence[semaphore.WaitableSemaphore] = (),
    ) -> None:
        start, sizes = block["offset"], (block["count"], block["input_bytes"], block["output_bytes"])
        memory = segment.bytes[start:]
        first = block[
            "first"
        ]  # earlier slots may be missing here: an interrupted call never received their block
        for index, each in enumerate(completed or self._open_all(block, deadline_ns)):
            header = memory[header_offset(index) :][:SLOT_HEADER]
            region_in = memory[input_offset(index, *sizes) :][: block["input_bytes"]]
            region_out = memory[output_offset(index, *sizes) :][: block["output_bytes"]]
            ends = self.model_cache.expire, self.break_off, self.disconnected
            slot = Slot(first + index, header, region_in, region_out, each, *ends)
            self.slots.append(slot)
            self._free.append(slot)
        with contextlib.suppress(NoReply):  # the names stay for a while longer
            self._link.send(
                {"op": "opened", "names": [*block["completed"], *opened]},
                monotonic_ns() + int(_OPENED_SECONDS * 1e9),
            )

    def _grow(self, slot: Slot, nbytes: int, deadline_ns: int) -> None:
        if slot.unmapped:
            reply, _ = self._ask({"op": "shrink", "slot": slot.index}, deadline_ns)
            self._output_regions.pop(slot.index, None)
            slot.go_back(reply["region"])
            if nbytes <= slot.input.nbytes:
                return
        message = {"op": "grow", "slot": slot.index, "nbytes": nbytes}
        try:
            reply, received = self._ask(message, deadline_ns, brings=True)
        except (Overloaded, InvalidInput):
            raise  # refused: nothing has changed
        except BaseException:
            # the broker may have bound another region: the next use must ask again
            slot.bind_input(memoryview(b""))
            raise
        try:
            slot.bind_input(self._mapped(received[-1], reply["nbytes"]).bytes)
        except BaseException:
            slot.set_aside()
            raise

    def _check_output(self, slot: Slot) -> None:
        """Set the slot aside if the answer to its last call could not be mapped; that call may have left before it was
        noticed."""
        found = self._output_regions.get(slot.index)
        if found is not None and isinstance(found[1], BrokerError):
            slot.set_aside()

    # -- those that come back late -------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Take back the abandoned slots that the broker has completed since."""
        with self._push_lock:
            self._ring.ring_again()
        for _ in range(len(self._abandoned)):
            try:
                # As in `claim`. Removed while it is checked, so that only one thread checks it.
                for slot in iter(self._abandoned.popleft, None):  # noqa: B007
                    break
            except IndexError:
                return
            try:
                self._recover(slot)
            finally:
                (self._abandoned if slot.busy or slot.extra_posts else self._free).append(slot)

    def _recover(self, slot: Slot) -> None:
        """Acquire the posts that are still outstanding for an abandoned slot: the broker's, if it is busy, and our own.

        The posts look alike, so the slot is free only when all of them have arrived: a post left over would be taken
        for the answer to the slot's next use.
        """
        while slot.done if slot.busy else slot.extra_posts:
            now = monotonic_ns()
            if semaphore.try_acquire(slot.completed):
                if slot.extra_posts:
                    slot.extra_posts -= 1
                else:
                    slot.busy = False
            elif not slot.missing_ns or now - slot.missing_ns < _POST_OVERDUE_NS:
                slot.missing_ns = slot.missing_ns or now
                return
            else:  # a signal handler raised just after a post was acquired: that post will not come again
                slot.extra_posts = 0
                slot.busy = False
