"""The worker's end of its channel: claims slots, submits them, waits for them.

    claim -> Slot.lay, write -> submit -> wait -> Slot.result -> release
                                   \\-> (timeout, cancel, exception) abandon: back when the broker let go of it

Any thread may call. A slot belongs to the thread that claimed it; the ring's tail to whoever holds `_push_lock`. All of
it belongs to the process that attached: to its children the channel is closed, as `alive` is wiped there.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from worker_client import last_run
from worker_client.absence import BrokerLost, ForeignAnswer, NoAnswer
from worker_client.catalogue import Catalogue
from worker_client.futures import FutureDispatcher
from worker_client.link import ControlLink, seconds_left
from worker_client.listeners import Listener, Listeners
from worker_client.region import OutputRegion
from worker_client.slot import Slot
from worker_client.wire import control, fork, semaphore
from worker_client.wire.clock import monotonic_ns
from worker_client.wire.errors import (
    BrokerError,
    BrokerUnavailable,
    DeadlineExceeded,
    InvalidInput,
    Overloaded,
)
from worker_client.wire.event import Event
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
    SLOT_HEADER,
    SUBMITTED_NS,
    header_offset,
    input_offset,
    output_offset,
)
from worker_client.wire.processor import leave_processor
from worker_client.wire.ring import RingProducer
from worker_client.wire.segment import Segment
from worker_client.wire.semaphore import Busy
from worker_client.wire.waiting import PollOrBlock, WaitMode, poll_giving_way, poll_word

_OPENED_SECONDS = 0.1  # how long to try to say that the semaphores are opened
_MAX_SLOTS_ADVICE = "send less at a time or raise the broker's max_slots"
_POST_OVERDUE_NS = 100_000_000


class Channel:
    """One attached worker process. Made by `Connection`; closed when its control connection ends."""

    def __init__(
        self, link: ControlLink, reply: control.Message, fd: int, mode: WaitMode, deadline_ns: int
    ) -> None:
        self._segments = [Segment.attach(fd, reply["nbytes"])]  # first, as it sees to the descriptor
        self.alive = fork.new_word()  # 0 when it is closed, and in a child: what every call looks at first
        self.process = link.process
        self.epoch: int = reply["epoch"]
        self.max_slots: int = reply["max_slots"]
        self.catalogue = Catalogue(reply["models"])
        self.slots: list[Slot] = []
        self.run_once: dict[int, str] = {}  # stateful signatures that were bound, with what a run does
        self.event: Event | None = None
        self.listeners = Listeners()  # event loops
        self._link = link
        self.bell: semaphore.Semaphore = self._opened(reply["bell"], deadline_ns)
        self._words = self._segments[0].bytes.cast("Q")
        self._ring = RingProducer(
            self._words,
            self._opened(reply["submitted"], deadline_ns),
            self._opened(reply["doorbell"], deadline_ns),
        )
        self._free: deque[Slot] = deque()
        self._abandoned: list[Slot] = []
        # A signal handler may call while its thread holds them, at moments when another push or growth does no harm.
        self._push_lock = threading.RLock()
        self._grower = 0  # the thread that asks for more slots
        self._slow = threading.Condition()  # wakes those who wait for a slot or for an output region
        self._claimers = 0
        self._no_more_slots = ""  # why the broker refused another block
        self._output_regions: dict[int, tuple[int, Segment]] = {}  # announced, not bound yet
        self._add_block(reply["block"], self._segments[0], deadline_ns, (reply["bell"], reply["submitted"]))
        # Last, as these refer to us: what fails before is freed at once.
        self._waiting = {POLL_FREELY: PollOrBlock(mode), POLL_GIVING_WAY: PollOrBlock(mode, in_crowd=True)}
        self.futures = FutureDispatcher(self)

    def __repr__(self) -> str:
        state = "open" if self.open else "closed"
        return f"<Channel {state}, {len(self._free)} of {len(self.slots)} slots free>"

    @property
    def open(self) -> bool:
        return self.alive[0] != 0

    @property
    def ours(self) -> bool:
        """False in a child of the process that attached."""
        return self.process.word[0] != 0

    def ask_for_models(self, timeout: float | None) -> None:
        """Bring the catalogue up to date."""
        reply, _ = self._link.request({"op": "models"}, timeout)
        self.catalogue.update(reply["models"])

    # -- slots ---------------------------------------------------------------------------------------------------

    def claim(self, nbytes: int, deadline_ns: int) -> Slot:
        """A slot whose input region holds `nbytes`. Raises Overloaded or BrokerUnavailable."""
        if self._abandoned:
            self._reap()
        free = self._free
        try:
            # In place of pop(): CPython runs signal handlers after calls only, so none can come between and lose it.
            slot = free[-1]
            del free[-1]
        except IndexError:
            slot = self._claim_slowly(deadline_ns)
        try:
            if nbytes > slot.input.nbytes:
                self._grow(slot, nbytes, deadline_ns)
        except BaseException:
            self.release(slot)
            raise
        return slot

    def claim_at_once(self, nbytes: int) -> Slot | None:
        """A slot that is free and large enough, if there is one."""
        if self._abandoned:
            self._reap()
        free = self._free
        for _ in range(len(free)):
            try:
                slot = free[-1]  # as in `claim`
                del free[-1]
            except IndexError:
                return None
            if slot.input.nbytes >= nbytes:
                return slot
            free.appendleft(slot)
        return None

    def make_room(self, nbytes: int, deadline_ns: int) -> None:
        """Have a slot of this size among the free ones, if the broker gives it; waits for no slot in use. It is handed
        to nobody, since the event loop that has asked may be closed meanwhile: the next one to claim has it."""
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
            self.listeners.tell_waiting()

    @property
    def is_growing(self) -> bool:
        """A thread asks for more slots; event loops that wait for one are woken when it is done."""
        return self._grower != 0

    @property
    def has_free(self) -> bool:
        """A slot is free, or may be by now."""
        return bool(self._free or self._abandoned)

    @property
    def may_grow(self) -> bool:
        """`claim` would not have to wait for a slot in use."""
        return bool(self._free) or (len(self.slots) < self.max_slots and not self._no_more_slots)

    def open_event(self, deadline_ns: int) -> Event:
        """What calls with NOTIFY_EVENT set when they are done, run out of time or lose the broker."""
        event = self.event
        if event is None:
            _, fds = self._ask({"op": "event"}, deadline_ns)
            event = Event(fds.pop())
            with self._slow:  # two loops may have asked at a time
                event = self.event = self.event or event
        return event

    def join(self, listener: Listener) -> bool:
        """Have an event loop woken for its calls. True if it has to listen to the event itself."""
        itself = self.listeners.join(listener)
        if not itself and self.event is not None:
            self._link.watch_event(self.event.fd)
        return itself

    def arm(self, deadline_ns: int) -> None:
        """Have `Listeners.expire` called at `deadline_ns` at the latest."""
        if deadline_ns < self._link.next_wake_ns:
            self._link.arm(deadline_ns)

    def _ask(self, message: control.Message, deadline_ns: int) -> tuple[control.Message, list[int]]:
        """Over the control socket, for a call that is attached. Raises DeadlineExceeded, and what the broker says."""
        try:
            return self._link.request(message, seconds_left(deadline_ns))
        except NoAnswer as error:
            raise DeadlineExceeded(str(error)) from None

    def release(self, slot: Slot) -> None:
        """Give a slot back, whatever became of it."""
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
        if not self.alive[0]:  # nobody claims it any more, and handles may keep the closed channel
            self._free.clear()
            self._abandoned.clear()
        elif self._claimers:
            with self._slow:
                self._slow.notify()

    def _claim_slowly(self, deadline_ns: int) -> Slot:
        with self._slow:
            self._claimers += 1
        try:
            while True:
                if not self.open:
                    raise self.gone()
                if self._abandoned:
                    self._reap()
                try:
                    slot = self._free[-1]
                    del self._free[-1]
                    return slot
                except IndexError:
                    if not self._more_slots(deadline_ns):
                        self._wait_for_release(deadline_ns)
        finally:
            with self._slow:
                self._claimers -= 1

    def _wait_for_release(self, deadline_ns: int) -> None:
        left = (deadline_ns - monotonic_ns()) / 1e9
        if left <= 0:
            raise Overloaded(
                f"all {len(self.slots)} slots of this worker were in flight until the deadline; "
                f"{self._no_more_slots or _MAX_SLOTS_ADVICE}"
            )
        with self._slow:
            # What another thread was asking for may have come, or been refused, just before we listen.
            settled = not self._grower and not self._no_more_slots and len(self.slots) < self.max_slots
            if not self._free and self.open and not settled:
                # Abandoned slots come back without a notification, so look for them now and then.
                self._slow.wait(min(left, 0.05) if self._abandoned else min(left, threading.TIMEOUT_MAX))

    def _more_slots(self, deadline_ns: int) -> bool:
        """Ask for another block, one thread at a time. False if there are as many slots as there may be, or if another
        thread asks already."""
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
                reply, fds = self._ask({"op": "slots"}, deadline_ns)
            except Overloaded as error:
                self._no_more_slots = f"there could be no more: {error}"
                return False
            except DeadlineExceeded:
                if self._no_more_slots:  # the broker's last word, for which there was time
                    return False
                raise
            segment = Segment.attach(fds.pop(), reply["nbytes"])
            self._segments.append(segment)
            self._add_block(reply["block"], segment, deadline_ns)
            return True
        finally:
            if self._grower == me:
                with self._slow:
                    self._grower = 0
                    self._slow.notify_all()
                self.listeners.tell_waiting()

    def _opened(self, name: str, deadline_ns: int) -> semaphore.WaitableSemaphore:
        try:
            return semaphore.attach(name)
        except semaphore.Missing:
            self._ask({"op": "status"}, deadline_ns)  # raises BrokerLost if the broker took it along
            raise

    def _add_block(
        self, block: dict[str, Any], segment: Segment, deadline_ns: int, opened: Sequence[str] = ()
    ) -> None:
        start, sizes = block["offset"], (block["count"], block["input_bytes"], block["output_bytes"])
        memory = segment.bytes[start:]
        first = block[
            "first"
        ]  # slots before it may be missing here: an interrupted call never saw their block
        for index, name in enumerate(block["completed"]):
            header = memory[header_offset(index) :][:SLOT_HEADER]
            region_in = memory[input_offset(index, *sizes) :][: block["input_bytes"]]
            region_out = memory[output_offset(index, *sizes) :][: block["output_bytes"]]
            completed = self._opened(name, deadline_ns)
            ends = self.catalogue.expire, self.break_off
            slot = Slot(first + index, header, region_in, region_out, completed, *ends)
            self.slots.append(slot)
            self._free.append(slot)
        with contextlib.suppress(NoAnswer):  # the names stay for a while longer
            self._link.send(
                {"op": "opened", "names": [*block["completed"], *opened]},
                monotonic_ns() + int(_OPENED_SECONDS * 1e9),
            )

    def _grow(self, slot: Slot, nbytes: int, deadline_ns: int) -> None:
        message = {"op": "grow", "slot": slot.index, "nbytes": nbytes}
        try:
            reply, fds = self._ask(message, deadline_ns)
            slot.bind_input(Segment.attach(fds.pop(), reply["nbytes"]).bytes)
        except (Overloaded, InvalidInput):
            raise  # refused: nothing has changed
        except BaseException:
            slot.bind_input(memoryview(b""))  # the broker may have bound another: the next use must ask again
            raise

    def _reap(self) -> None:
        """Take back the abandoned slots that the broker has completed since."""
        with self._push_lock:
            self._ring.ring_again()
        for _ in range(len(self._abandoned)):
            try:
                slot = self._abandoned[0]  # taken out to be looked at, so by one thread at a time
                del self._abandoned[0]
            except IndexError:
                return
            try:
                self._recover(slot)
            finally:
                (self._abandoned if slot.busy or slot.extra_posts else self._free).append(slot)

    def _recover(self, slot: Slot) -> None:
        """Acquire the posts that are still to come for an abandoned slot: the broker's, if it is busy, and our own.

        They look alike, so the slot is free only when all are there: what is left over would be taken for the answer to
        the slot's next use.
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
            else:  # a signal handler has raised just after one was acquired: it comes no more
                slot.extra_posts = 0
                slot.busy = False

    # -- one call ------------------------------------------------------------------------------------------------

    def submit(self, slot: Slot, signature_id: int, deadline_ns: int, notify: int = NOTIFY_SLOT) -> None:
        """Hand a written slot to the broker."""
        # Polling needs a core, and no other call of this process that could use it.
        alone = len(self._free) + 1 == len(self.slots) and notify == NOTIFY_SLOT
        waiting = slot.waiting = self._waiting.get(self._words[POLL_WORD]) if alone else None
        slot.prepare(signature_id, deadline_ns, notify, monotonic_ns(), waiting.poll_ns if waiting else 0)
        # Looked at after `notify` is set, by which a closing channel chooses whom to wake.
        if not self.alive[0]:
            raise self.gone()
        with self._push_lock:
            self._ring.push(slot)

    def wait(self, slot: Slot, deadline_ns: int) -> None:
        """Return when the result in `slot` may be read. Raises DeadlineExceeded or BrokerUnavailable."""
        words = slot.words
        start = words[SUBMITTED_NS]
        waiting = slot.waiting
        if waiting is not None and waiting.poll_ns:
            limit = start + waiting.poll_ns
            if limit > deadline_ns:  # noqa: PLR1730 - min() is a call
                limit = deadline_ns
            if waiting.in_crowd:
                poll_giving_way(words, DONE, slot.sequence, limit)
            elif not poll_word(words, DONE, slot.sequence, limit) and waiting.begins_to_poll:
                # The broker may be waiting for the very processor that we poll on. Make room, and try once more.
                leave_processor()
                poll_word(words, DONE, slot.sequence, min(monotonic_ns() + waiting.poll_ns, deadline_ns))
        self._acquire(slot, deadline_ns)
        slot.busy = False
        now = slot.woken_ns = monotonic_ns()
        if waiting is not None:
            waiting.observe(now - start, now)
        if words[OUTPUT_REGION] != slot.output.number:
            self.await_region(slot, deadline_ns)

    def _acquire(self, slot: Slot, deadline_ns: int) -> None:
        while True:
            if not self.process.word[
                0
            ]:  # a signal handler has forked, and the child came back to its parent's call
                raise self.gone(slot)
            if slot.words[DONE] != slot.sequence:
                self._block(slot, deadline_ns)
            else:
                try:
                    slot.completed.acquire(0)  # SYNC completed
                except Busy:  # its post comes right after DONE
                    self._block(slot, deadline_ns)
            while slot.extra_posts:
                # This post may be the deadline keeper's or the closing channel's, so it hands nothing over.
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

    def take_answer(self, slot: Slot) -> bool:
        """Acquire the answer to a call that nobody waits for in `wait`, if it is there."""
        while slot.done and semaphore.try_acquire(slot.completed):  # SYNC completed
            if not slot.extra_posts:
                slot.busy = False
                slot.woken_ns = monotonic_ns()
                slot.deadline_ns = NO_DEADLINE
                return True
            slot.extra_posts -= 1  # the deadline keeper's, late from the slot's last use
        return False

    def _block(self, slot: Slot, deadline_ns: int) -> None:
        self.watch(slot, deadline_ns)
        while slot.completed.wait():  # SYNC completed
            if not self.ours:
                raise self.gone(slot)

    def watch(self, slot: Slot, deadline_ns: int) -> None:
        """Have the slot's waiter woken when `deadline_ns` passes."""
        slot.expired_ns = 0
        slot.deadline_ns = deadline_ns
        if deadline_ns < self._link.next_wake_ns:
            self._link.arm(deadline_ns)

    def deadline_exceeded(self, slot: Slot) -> DeadlineExceeded | Overloaded:
        waited = (monotonic_ns() - slot.words[SUBMITTED_NS]) / 1e6
        if slot.words[HELD] == slot.sequence:
            return Overloaded(
                f"the model's queue was full until the call's timeout ({waited:.0f} ms); send less at a time or raise "
                "the model's max_queue_rows or max_queue_bytes"
            )
        return DeadlineExceeded(f"no answer within the call's timeout; waited {waited:.0f} ms")

    def gone(self, slot: Slot | None = None) -> BrokerError:
        """Why the channel is closed, for the call in `slot`: only one whose run had begun may have ended the broker."""
        if slot is None or not slot.busy:
            return self._link.gone()
        number = slot.signature_id & ~BULK
        began = last_run.began(slot.words)
        # What is stateful is rather not run than run twice: there, what was taken counts as begun.
        ran = began or (number in self.run_once and self._ring.is_taken(slot))
        error = self._link.gone(ran)
        if not ran or not isinstance(error, BrokerLost):
            return error
        overdue = last_run.without_end(slot.words, self.catalogue.max_run_seconds(number)) if began else None
        return overdue or self._not_again(error, slot.signature_id)

    def _gone_with(self, slot: Slot) -> BrokerUnavailable:
        """For a call that the broker had taken."""
        return self._not_again(self._link.gone(ran=True), slot.signature_id)

    def break_off(self, why: str, signature_id: int) -> BrokerUnavailable:
        """An answer was not to what was asked: believe nothing more that comes here. Returns the call's error."""
        self.alive[0] = 0
        self._link.break_off(why)
        return self._not_again(ForeignAnswer(why), signature_id)

    def _not_again(self, error: BrokerUnavailable, signature_id: int) -> BrokerUnavailable:
        """The error of a call that may have been run: no BrokerLost, which has it run again, if it is stateful."""
        effects = self.run_once.get(signature_id & ~BULK)
        if effects is None or not isinstance(error, BrokerLost):
            return error
        return BrokerUnavailable(f"{error}; the call may have been run and is not run again, as {effects}")

    # -- called by the watcher thread ----------------------------------------------------------------------------

    def expire(self, now_ns: int) -> int:
        """Wake the calls whose deadline has passed; the earliest deadline of the others."""
        earliest = NO_DEADLINE
        for slot in self.slots:
            deadline_ns = slot.deadline_ns
            if deadline_ns > now_ns:
                earliest = min(earliest, deadline_ns)
            elif deadline_ns != slot.expired_ns:
                # The deadline stays as it is: the slot's next call may have set its own by now.
                slot.expired_ns = deadline_ns
                self._post(slot)
        return min(earliest, self.listeners.expire(now_ns))

    def answered(self) -> None:
        """The event is set, and several loops wait."""
        event = self.event
        if event is not None:
            event.clear()
            self.listeners.tell(monotonic_ns())

    def _post(self, slot: Slot) -> None:
        if not self._ring_for(slot):
            slot.extra_posts += 1  # before the post: the waiter counts it off
            slot.completed.release()
            self._ring_for(
                slot
            )  # it may be a future's by now, whose answer was counted off in place of this post

    def _ring_for(self, slot: Slot) -> bool:
        """Wake who looks after calls that nobody waits for in `wait`. False if this is none."""
        if slot.notify == NOTIFY_BELL:
            self.bell.release()
        elif slot.notify == NOTIFY_EVENT and (event := self.event) is not None:
            event.set()
        else:
            return False
        return True

    def accept_output(self, message: control.Message, fd: int) -> None:
        """The broker bound a slot to a new output region; its next completion says from when on."""
        segment = Segment.attach(fd, message["nbytes"])
        with self._slow:
            self._output_regions[message["slot"]] = message["region"], segment
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

    def answer_lost(self, slot: Slot) -> BrokerUnavailable:
        """The channel closed after an answer, and before the region that holds it came."""
        return self._gone_with(slot)

    def await_region(self, slot: Slot, deadline_ns: int) -> None:
        """Bind the output region that the completion names, if the slot has another one yet."""
        number = slot.words[OUTPUT_REGION]
        if number == slot.output.number:
            return
        if not self.ours:
            raise self.gone(slot)
        with self._slow:
            while (found := self._output_regions.get(slot.index)) is None or found[0] != number:
                left = (deadline_ns - monotonic_ns()) / 1e9
                if not self.open:
                    raise self._gone_with(slot)  # the answer had come
                if left <= 0:
                    raise self.deadline_exceeded(slot)
                self._slow.wait(min(left, threading.TIMEOUT_MAX))
            slot.output = OutputRegion(number, found[1].bytes)
            del self._output_regions[slot.index]

    def close(self) -> None:
        """The control connection is gone: every waiting call wakes and finds the channel closed."""
        self.alive[0] = 0
        for slot in self.slots:
            self._post(slot)
        self.bell.release()
        if (event := self.event) is not None:
            event.set()
        self.listeners.tell_all()
        with self._slow:
            self._slow.notify_all()

    def forget(self) -> None:
        """In a child: let go of the parent's memory and descriptors."""
        event, self.event = self.event, None
        if event is not None:
            event.forget()  # first, so that nothing can take it out of an epoll that the parent shares
        self.dispose()

    def dispose(self) -> None:
        """Let go of the memory, of which each slot in use and each result keeps its part. The channel is closed."""
        self.__dict__.pop("submit", None)
        self.event = None  # closed when the loop that listens to it has ended that, too
        self.slots = []
        self._free = deque()
        self._abandoned = []
        self._output_regions = {}
        self._segments = []
        # For threads that are still on their way out of here.
        self.bell = semaphore.NoSemaphore()
        self._words = memoryview(bytearray(RING_END)).cast("Q")
        self._ring = RingProducer(self._words, self.bell, self.bell)
