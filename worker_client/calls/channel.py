"""The worker's end of its channel: submits slots, waits for them.

    claim -> write_layout -> submit -> wait -> Slot.result -> release
                                   \\-> (timeout, cancel, exception) abandon: free again once the broker completes it

Any thread may call. A slot belongs to the thread that claimed it (`attachment/supply.py`); the ring's tail belongs to
the thread that holds `_push_lock`. The whole channel belongs to the process that attached (`attachment/attachment.py`).
"""

from __future__ import annotations

from collections import deque
from time import sleep

from worker_client.attachment.expiry import expire
from worker_client.attachment.link import ControlLink
from worker_client.attachment.region import OutputRegion
from worker_client.attachment.retry_policy import BrokerLost
from worker_client.attachment.slot import Slot
from worker_client.attachment.supply import SlotSupply
from worker_client.calls.futures import FutureDispatcher
from worker_client.calls.late import how_late
from worker_client.ipc import semaphore
from worker_client.ipc.ring import RingProducer
from worker_client.ipc.segment import Segment
from worker_client.ipc.semaphore import Busy
from worker_client.ipc.waiting import LOST_NS, Losses, PollOrBlock, WaitMode, poll_giving_way, poll_word
from worker_client.system.clock import monotonic_ns
from worker_client.system.descriptor import Descriptor
from worker_client.system.processor import leave_processor
from worker_client.wire import control
from worker_client.wire.errors import BrokerError, DeadlineExceeded, Overloaded
from worker_client.wire.layout import (
    BULK,
    DONE,
    HELD,
    NO_DEADLINE,
    NOTIFY_BELL,
    NOTIFY_EVENT,
    NOTIFY_SLOT,
    OUTPUT_REGION,
    POLL_FREELY,
    POLL_GIVING_WAY,
    POLL_WORD,
    RING_END,
    SUBMITTED_NS,
)

_UNWATCHED_CHECK_SECONDS = 0.001


class Channel(SlotSupply):
    """The channel of one attached worker process. Made by `Connection`; closed when its control connection ends."""

    def __init__(
        self, link: ControlLink, reply: control.Message, fd: Descriptor, mode: WaitMode, deadline_ns: int
    ) -> None:
        super().__init__(link, reply, fd, deadline_ns)
        # These come last because they refer to this object: if anything above fails, it is freed at once.
        losses = Losses()
        self._waiting = {
            POLL_FREELY: PollOrBlock(mode, losses=losses),
            POLL_GIVING_WAY: PollOrBlock(mode, oversubscribed=True, losses=losses),
        }
        self.futures = FutureDispatcher(self)

    def __repr__(self) -> str:
        state = "open" if self.open else "closed"
        return f"<Channel {state}, {len(self._free)} of {len(self.slots)} slots free>"

    # -- one call ------------------------------------------------------------------------------------------------------

    def submit(self, slot: Slot, signature_id: int, deadline_ns: int, notify: int = NOTIFY_SLOT) -> None:
        """Hand a written slot to the broker."""
        # Poll only if no other call of this process is in flight, because that call could use the core.
        alone = len(self._free) + 1 == len(self.slots) and notify == NOTIFY_SLOT
        waiting = slot.waiting = self._waiting.get(self._words[POLL_WORD]) if alone else None
        slot.prepare(signature_id, deadline_ns, notify, monotonic_ns(), waiting.poll_ns if waiting else 0)
        # Check after `notify` is set, because a closing channel uses `notify` to choose what to wake.
        if not self.alive[0]:
            raise self.gone()
        with self._push_lock:
            self._ring.push(slot)

    def wait(self, slot: Slot, deadline_ns: int) -> None:
        """Wait until the result in `slot` may be read. Raises DeadlineExceeded or BrokerUnavailable."""
        words = slot.words
        start = words[SUBMITTED_NS]
        waiting = slot.waiting
        limit = gave_up_ns = 0
        if waiting is not None and waiting.poll_ns:
            limit = start + waiting.poll_ns
            if limit > deadline_ns:  # noqa: PLR1730 - min() is a call
                limit = deadline_ns
            if waiting.oversubscribed:
                gave_up_ns = poll_giving_way(words, DONE, slot.sequence, limit)
            else:
                gave_up_ns = poll_word(words, DONE, slot.sequence, limit)
                if gave_up_ns and waiting.begins_to_poll:
                    # The broker may be waiting for the processor that we poll on. Leave it, and poll once more.
                    leave_processor()
                    limit = min(monotonic_ns() + waiting.poll_ns, deadline_ns)
                    gave_up_ns = poll_word(words, DONE, slot.sequence, limit)
        self._acquire(slot, deadline_ns)
        slot.busy = False
        now = slot.woken_ns = monotonic_ns()
        if waiting is not None:
            if limit:
                late_ns = (gave_up_ns or now) - limit
                if late_ns > LOST_NS:
                    waiting.lost(late_ns, now)
            waiting.observe(now - start, now)
        if words[OUTPUT_REGION] != slot.output.number:
            self.await_region(slot, deadline_ns)

    def _acquire(self, slot: Slot, deadline_ns: int) -> None:
        while True:
            if not self.process.word[
                0
            ]:  # a signal handler forked, and the child returned into its parent's call
                raise self.gone(slot)
            if slot.words[DONE] != slot.sequence:
                self._block(slot, deadline_ns)
            else:
                try:
                    slot.completed.acquire(0)  # SYNC completed
                except Busy:  # the broker posts right after it stores DONE
                    self._block(slot, deadline_ns)
            while slot.extra_posts:
                # This post may come from the watcher or from the closing channel, so it hands nothing over.
                slot.extra_posts -= 1
                if slot.done and semaphore.try_acquire(slot.completed):  # SYNC completed
                    continue
                if not self.open:
                    raise self.gone(slot)
                if monotonic_ns() >= deadline_ns:
                    raise self.deadline_exceeded(slot)
                break
            else:
                if slot.words[DONE] == slot.sequence:
                    slot.deadline_ns = NO_DEADLINE
                    return

    def await_bell(self) -> None:
        """For the thread of the futures: block until there may be something to look at."""
        semaphore.acquire(self.bell)

    def take_answer(self, slot: Slot) -> bool:
        """Acquire the answer, if it is there, to a call for which no thread is in `wait`."""
        while slot.done and semaphore.try_acquire(slot.completed):  # SYNC completed
            if not slot.extra_posts:
                slot.busy = False
                slot.woken_ns = monotonic_ns()
                slot.deadline_ns = NO_DEADLINE
                return True
            slot.extra_posts -= 1  # a late post of the watcher, for the slot's last use
        return False

    def _block(self, slot: Slot, deadline_ns: int) -> None:
        if not self.watch(slot, deadline_ns):
            self._poll_until(slot, deadline_ns)
            return
        while slot.completed.wait():  # SYNC completed
            if not self.ours:
                raise self.gone(slot)

    def _poll_until(self, slot: Slot, deadline_ns: int) -> None:
        """Poll for the answer or the deadline, because no thread would post when the deadline passes. The broker still
        answers."""
        slot.deadline_ns = NO_DEADLINE
        while not semaphore.try_acquire(slot.completed):  # SYNC completed
            if not self.ours:
                raise self.gone(slot)
            if monotonic_ns() >= deadline_ns:
                raise self.deadline_exceeded(slot)
            sleep(_UNWATCHED_CHECK_SECONDS)

    def watch(self, slot: Slot, deadline_ns: int) -> bool:
        """Arrange that the slot's waiter is woken when `deadline_ns` passes. False if that is impossible: the channel
        is retired."""
        slot.expired_ns = 0
        slot.deadline_ns = deadline_ns
        return self.arm(deadline_ns)

    def deadline_exceeded(self, slot: Slot) -> DeadlineExceeded | Overloaded:
        waited = (monotonic_ns() - slot.words[SUBMITTED_NS]) / 1e6
        if slot.words[HELD] == slot.sequence:
            return Overloaded(
                f"the model's queue was full until the call's timeout ({waited:.0f} ms); send less at a time or raise "
                "the model's max_queue_rows or max_queue_bytes"
            )
        label, _ = self.run_limits.get(slot.signature_id & ~BULK, ("", 0.0))
        return DeadlineExceeded(how_late(slot.words, label, monotonic_ns()))

    # -- called by the watcher thread ----------------------------------------------------------------------------------

    def expire(self, now_ns: int) -> int:
        """Wake the calls whose deadline has passed. Returns the earliest deadline of the others."""
        return min(expire(self.slots, now_ns, self._post), self.listeners.expire(now_ns))

    def answered(self) -> None:
        """Notify the loops: the event is set, and several loops wait."""
        event = self.event
        if event is not None:
            if not event.clear():
                self.lose()
            self.listeners.notify(monotonic_ns())

    def _post(self, slot: Slot) -> None:
        if not self._ring_for(slot):
            slot.extra_posts += 1  # before the post: the waiter subtracts it
            slot.completed.release()
            self._ring_for(
                slot
            )  # the slot may belong to a future by now, whose answer was taken for this post

    def _ring_for(self, slot: Slot) -> bool:
        """Wake the thread or loop that completes this call. False if a thread is in `wait` for it instead."""
        if slot.notify == NOTIFY_BELL:
            self.bell.release()
        elif slot.notify == NOTIFY_EVENT and (event := self.event) is not None:
            event.set()
        else:
            return False
        return True

    def accept_output(self, message: control.Message, fd: Descriptor) -> None:
        """The broker bound a slot to a new output region, which is used from the completion that names it."""
        region: Segment | BrokerError
        try:
            region = self._mapped(fd, message["nbytes"])
        except BrokerLost:
            return
        except BrokerError as error:
            region = error  # only that call fails
        with self._slow:
            self._output_regions[message["slot"]] = message["region"], region
            self._slow.notify_all()
        self.bell.release()
        if (event := self.event) is not None:
            event.set()

    def has_region(self, slot: Slot) -> bool:
        """Whether `await_region` would not wait."""
        number = slot.words[OUTPUT_REGION]
        if number == slot.output.number:
            return True
        found = self._output_regions.get(slot.index)
        return found is not None and found[0] == number

    def await_region(self, slot: Slot, deadline_ns: int) -> None:
        """Bind the output region that the completion names, if the slot still has another one."""
        number = slot.words[OUTPUT_REGION]
        if number == slot.output.number:
            return
        if not self.ours:
            raise self.gone(slot)
        with self._slow:
            while (found := self._output_regions.get(slot.index)) is None or found[0] != number:
                left = (deadline_ns - monotonic_ns()) / 1e9
                if not self.open:
                    raise self._gone_with(slot)  # the answer had arrived
                if left <= 0:
                    raise self.deadline_exceeded(slot)
                self._slow.wait(left)
            if isinstance(found[1], BrokerError):
                slot.set_aside()
                raise type(found[1])(f"{found[1]}; the model has run, but its answer is lost")
            slot.output = OutputRegion(number, found[1].bytes)
            del self._output_regions[slot.index]

    def close(self) -> None:
        """Close the channel when the control connection has ended: every waiting call wakes and finds it closed."""
        self.alive[0] = 0
        for slot in self.slots:
            self._post(slot)
        self.bell.release()
        self._wake_all()

    def retire(self) -> None:
        """Begin no more calls, because the link lost a descriptor. Calls under way are answered as long as possible."""
        self.alive[0] = 0
        self._wake_all()

    def _wake_all(self) -> None:
        if (event := self.event) is not None:
            event.set()
        self.listeners.notify_all()
        with self._slow:
            self._slow.notify_all()

    def lose(self) -> None:
        """Report that other code closed the event's descriptor."""
        self._link.lose()

    def leave(self) -> None:
        """Ask the broker through the ring to hang up, because the socket is lost."""
        with self._push_lock:
            self._ring.leave()
        self.close()

    def after_fork_in_child(self) -> None:
        """Release the parent's memory and descriptors."""
        event, self.event = self.event, None
        if event is not None:
            event.after_fork_in_child()  # first, so that nothing can remove it from an epoll that the parent shares
        self.dispose()

    def dispose(self) -> None:
        """Release the memory; each slot in use and each result keeps its part. The channel must be closed."""
        self.__dict__.pop("submit", None)
        self.event = None  # it is closed once the loop no longer listens to it
        self.slots = []
        self._free = deque()
        self._abandoned = deque()
        self._output_regions = {}
        self._left_block = None
        self._segments = []
        # For threads that are still leaving a method of this object.
        self.bell = semaphore.ReleasedSemaphore()
        self._words = memoryview(bytearray(RING_END)).cast("Q")
        self._ring = RingProducer(self._words, self.bell, self.bell)
