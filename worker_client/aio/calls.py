"""The calls of one event loop on one channel: no thread, no poll, one descriptor for all of them.

begin -> a free slot, or the end of the queue -> written, submitted with NOTIFY_EVENT
                                                 broker: completes the slot, sets the channel's event
watcher thread, closing channel: set the event too
event readable -> check every slot in flight -> answers are copied out, the tasks that await them go on
                                               -> each free slot goes to the first call in the queue

A task wakes once, when its answer is there; nothing before that needs a task. Calls get slots in the order in which
they began, so no call starves. Each event loop has its own LoopCalls; `attachment/listeners.py` says how they share a
channel. The loop's own clock is not used, because it may be frozen: the watcher keeps all deadlines, including those of
queued calls.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from worker_client.attachment.listeners import CHECK_NS
from worker_client.attachment.retry_policy import BrokerLost
from worker_client.attachment.slot import Slot
from worker_client.binding import Binding, copied
from worker_client.calls.timings import Timings
from worker_client.system import limits
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import BrokerError, BrokerUnavailable, Overloaded
from worker_client.wire.layout import DONE, NO_DEADLINE, NOTIFY_EVENT, OUTPUT_REGION
from worker_client.wire.tensors import TensorLayout

if TYPE_CHECKING:
    from worker_client.calls.channel import Channel
    from worker_client.ipc.event import Event

_numbers = count()  # of claims, in the order in which they were made


class SlotClaim:
    """A claim that waits for a slot. `over` gets the slot."""

    __slots__ = ("deadline_ns", "nbytes", "number", "over", "slot")

    def __init__(self, over: asyncio.Future[Any], nbytes: int, deadline_ns: int) -> None:
        self.number = next(_numbers)
        self.over = over
        self.nbytes = nbytes
        self.deadline_ns = deadline_ns
        self.slot: Slot | None = None  # the slot, while the broker has it

    def enter(self, calls: LoopCalls, slot: Slot) -> None:
        """Take over a slot that was claimed."""
        self.over.set_result(slot)

    def fail(self, calls: LoopCalls, error: BaseException) -> None:
        """Fail, because the broker will not answer, or not in time."""
        if isinstance(error, MemoryError):
            error = limits.no_memory(error)
        if not self.over.done():
            self.over.set_exception(error)


class AsyncRun(SlotClaim):
    """One run on a slot that its caller keeps. `over` gets None."""

    __slots__ = ()

    def answer(self, calls: LoopCalls, slot: Slot) -> None:
        """Take the broker's answer: the result in the slot may be read."""
        if not self.over.done():
            self.over.set_result(None)


class AsyncCall(SlotClaim):
    """One `predict`. `over` gets the answer; `sent` holds the inputs, in case they have to be sent again."""

    __slots__ = ("arrays", "binding", "form", "given", "layout", "sent", "timed", "timings")

    def __init__(
        self,
        over: asyncio.Future[Any],
        binding: Binding,
        arrays: tuple[np.ndarray, ...],
        layout: TensorLayout,
        deadline_ns: int,
        form: Any,
        given: tuple[str, ...],
    ) -> None:
        super().__init__(over, layout.nbytes, deadline_ns)
        self.given = given  # the names of the inputs that the caller gave
        self.binding = binding
        self.arrays = arrays
        self.layout = layout
        self.form = form
        self.sent: dict[str, Any] | None = None
        self.timed = False  # whether its caller needs its timings
        self.timings: Timings | None = None

    def enter(self, calls: LoopCalls, slot: Slot) -> None:
        try:
            for view, array in zip(slot.input.write_layout(self.layout), self.arrays):
                view[...] = array
        except BaseException as error:
            calls.release(slot)
            self.fail(calls, error)
            return
        calls.submit(self, slot, self.binding.id)

    def answer(self, calls: LoopCalls, slot: Slot) -> None:
        try:
            value = copied(self.binding, slot.result(), self.form)
        except Exception as error:  # an error that the broker reports, or no memory for the copy
            self.fail(calls, error)
            return
        if self.timed:
            self.timings = Timings.of(slot)
        self.slot = None
        if not self.over.done():
            self.over.set_result(value)
        calls.release(slot)

    def fail(self, calls: LoopCalls, error: BaseException) -> None:
        slot, self.slot = self.slot, None
        if slot is not None:
            if isinstance(error, BrokerLost):  # the caller may have changed its own arrays meanwhile
                try:
                    self.sent = self._copy(slot)
                except MemoryError as lack:
                    error = lack
            calls.release(slot)
        super().fail(calls, error)

    def _copy(self, slot: Slot) -> dict[str, Any]:
        sent = dict(zip(self.binding.validator.names, slot.input.write_layout(self.layout)))
        return {name: sent[name].copy() for name in self.given}


Sent: TypeAlias = AsyncRun | AsyncCall
"""The claims that the broker answers; a plain SlotClaim only waits for its slot."""


class LoopCalls:
    """The calls of one event loop. All methods are called in that loop, except those of `Listener`."""

    def __init__(self, channel: Channel, event: Event) -> None:
        self.channel = channel
        self.loop = asyncio.get_running_loop()
        self.deadline_ns = NO_DEADLINE  # the earliest deadline of the queued claims
        self.expired_ns = 0
        self._event: Event | None = None  # if this loop listens to the event itself
        self._calls: dict[Slot, Sent] = {}
        self._queue: deque[SlotClaim] = deque()
        self._growing: SlotClaim | None = None
        self._woken_ns = 0  # when it was woken, if it has not checked since
        self._patience_ns = CHECK_NS  # how long until it is woken once more
        self._stopped = False
        self._reason: BrokerUnavailable | None = None  # why it was stopped, if the channel is not closed
        if channel.join(self):
            self._event = event
            self.loop.add_reader(event.fd, self._on_event)
        self._on_event()  # the channel may have been closed before this loop listened

    def __repr__(self) -> str:
        return f"<LoopCalls {len(self._calls)} under way, {len(self._queue)} waiting, of {self.channel!r}>"

    # -- slots ---------------------------------------------------------------------------------------------------

    async def claim(self, nbytes: int, deadline_ns: int) -> Slot:
        """Like `Channel.claim`, in turn with all other calls. Raises Overloaded or BrokerUnavailable."""
        claim = SlotClaim(self.loop.create_future(), nbytes, deadline_ns)
        self._begin(claim)
        try:
            slot: Slot = await claim.over
        except (asyncio.CancelledError, GeneratorExit):
            if claim.over.done() and not claim.over.cancelled() and claim.over.exception() is None:
                self.release(claim.over.result())
            raise
        return slot

    def release(self, slot: Slot) -> None:
        """Give a slot back, in whatever state its request is."""
        turn = self.channel.listeners.whose_turn(self)
        if turn is None and self._queue and not (slot.busy or slot.extra_posts):
            claim, fits = self._queue[0], self._queue[0].nbytes <= slot.input.nbytes
            if fits and not claim.over.done() and self.channel.open and not self.loop.is_closed():
                self._queue.popleft()
                claim.enter(self, slot)
                return
        self.channel.release(slot)
        if turn is not None:
            turn.wake()
        if self._queue and not self.loop.is_closed():
            if turn is None:
                self._serve_queue()
            # the other loop gets a moment to take the slot, but cannot keep this one waiting if it is blocked
            else:
                self.loop.call_soon(self._serve_queue)

    def _begin(self, claim: SlotClaim) -> None:
        if self._stopped or not self.channel.open:
            raise self._gone()
        slot = None if self._queue else self.channel.claim_at_once(claim.nbytes)
        if slot is not None:
            claim.enter(self, slot)
            return
        self._queue.append(claim)
        if claim.deadline_ns < self.deadline_ns:
            self._expire_at(claim.deadline_ns)
        if len(self._queue) == 1:  # later claims wait for the first
            self._serve_queue()
            self._find_closed_loops()
        elif self._growing is not None:
            self._serve_queue()

    def _serve_queue(self) -> None:
        """Give the free slots to the queued claims, and ask for more slots while more are allowed."""
        while self._queue and self.channel.open:
            claim = self._queue[0]
            if claim.over.done():  # cancelled, or out of time
                self._queue.popleft()
                continue
            slot = self.channel.claim_at_once(claim.nbytes)
            if slot is not None:
                self._queue.popleft()
                claim.enter(self, slot)
                continue
            if self.channel.may_grow and not self.channel.is_growing and self._growing is None:
                self._grow_for(claim)
            if self._growing is not None and len(self._queue) > 1 and self.channel.has_free:
                self._serve_smaller()
            return

    def _serve_smaller(self) -> None:
        """Give free slots that are too small for the first claim, which waits for a larger one, to the claims behind
        it."""
        for claim in list(self._queue)[1:]:
            if claim.over.done():
                continue
            slot = self.channel.claim_at_once(claim.nbytes)
            if slot is None:
                return
            self._queue.remove(claim)
            claim.enter(self, slot)

    def _grow_for(self, claim: SlotClaim) -> None:
        """Ask for another block of slots, or a larger region, in a thread, because the control socket blocks. The claim
        stays first in the queue: it gets the next slot that fits, even before the answer comes."""
        try:
            grown = self.loop.run_in_executor(None, self.channel.make_room, claim.nbytes, claim.deadline_ns)
        except RuntimeError as error:  # the executor was shut down, or cannot start a thread
            self._queue.remove(claim)
            claim.fail(
                self, Overloaded(f"the event loop could not start a thread to ask for more memory: {error}")
            )
            return
        self._growing = claim

        def look(grown: asyncio.Future[None]) -> None:
            self._growing = None
            # retrieved in any case, or asyncio logs it
            error = None if grown.cancelled() else grown.exception()
            if grown.cancelled() or self._stopped:
                error = self._gone()
            if error is not None and claim in self._queue:
                self._queue.remove(claim)
                claim.fail(self, error)
            self._serve_queue()

        grown.add_done_callback(look)

    def _find_closed_loops(self) -> None:
        if self._queue and self.channel.listeners.several:
            self._check_again_soon()

    def _check_again_soon(self) -> None:
        self.channel.arm(self.channel.listeners.check_soon(monotonic_ns()))

    def _expire_at(self, deadline_ns: int) -> None:
        self.deadline_ns = deadline_ns
        self.channel.arm(deadline_ns)

    def _expire(self, now_ns: int) -> None:
        """Fail the queued claims whose deadline has passed, and arm the watcher for the next deadline."""
        earliest = NO_DEADLINE
        for claim in list(self._queue):
            if claim.over.done():
                continue
            if claim.deadline_ns <= now_ns:
                claim.fail(self, self._overloaded())
            else:
                earliest = min(earliest, claim.deadline_ns)
        self._queue = deque([claim for claim in self._queue if not claim.over.done()])
        self._expire_at(earliest)

    def _overloaded(self) -> Overloaded:
        return self.channel.all_in_flight()

    # -- calls ---------------------------------------------------------------------------------------------------

    def begin(self, binding: Binding, inputs: Any, deadline_ns: int, form: Any) -> AsyncCall:
        """Send `inputs` as soon as there is a slot. `form`, the caller's inputs, decides the form of the answer.

        Raises InvalidInput or BrokerUnavailable; every other error is set on `over`. A caller that stops awaiting
        `over` must call `give_up`.
        """
        try:
            arrays, layout = binding.validator.prepare(inputs)
        except MemoryError as error:
            raise limits.no_memory(error) from None
        given = binding.validator.given(inputs)
        call = AsyncCall(self.loop.create_future(), binding, arrays, layout, deadline_ns, form, given)
        self._begin(call)
        return call

    def give_up(self, call: AsyncCall) -> None:
        """Cancel the request of a call that no task awaits any more. If its loop is closed, the garbage collector calls
        this, in any thread."""
        slot, call.slot = call.slot, None
        if slot is not None and self._calls.pop(slot, None) is not None:
            self.release(slot)
        if not self.loop.is_closed():
            call.over.cancel()

    async def run(self, slot: Slot, signature_id: int, deadline_ns: int) -> None:
        """Submit a written slot, and wait until its result may be read. Raises DeadlineExceeded and the like.

        A task that is cancelled cancels its request when it releases the slot.
        """
        run = AsyncRun(self.loop.create_future(), 0, deadline_ns)
        self.submit(run, slot, signature_id)
        try:
            await run.over
        finally:
            self._calls.pop(slot, None)
            slot.deadline_ns = NO_DEADLINE

    def submit(self, claim: Sent, slot: Slot, signature_id: int) -> None:
        """Hand the claim's written slot to the broker."""
        self._calls[slot] = claim
        claim.slot = slot
        slot.notify = NOTIFY_EVENT
        try:
            if self._stopped:
                raise self._gone()
            # Before the slot is submitted, because this may find that the channel is lost.
            if claim.deadline_ns != NO_DEADLINE:
                self.channel.watch(slot, claim.deadline_ns)
            self.channel.submit(slot, signature_id, claim.deadline_ns, NOTIFY_EVENT)
        except BaseException as error:
            del self._calls[slot]
            claim.fail(self, error)

    def _on_event(self) -> None:
        """Settle every call that has ended."""
        if self._stopped:
            return
        if not self.channel.ours:
            self.stop()
            return
        self._woken_ns = 0
        try:
            self._check_all(monotonic_ns())
        except BaseException:
            # a signal handler raised in the middle of the check: the other calls must still be checked
            self._check_again_soon()
            raise

    def _check_all(self, now: int) -> None:
        if self._event is not None:
            if not self._event.clear():
                self.channel.lose()
            if self.channel.listeners.several:
                self.channel.listeners.notify(now, besides=self)
        for slot, claim in list(self._calls.items()):
            try:
                self._check_at(slot, claim, now)
            except Exception as error:  # only this call fails, and the others still get their answers
                self._calls.pop(slot, None)
                claim.fail(self, error)
        if now >= self.deadline_ns:
            self._expire(now)
        if self._queue:
            self._serve_queue()  # a slot that was abandoned while it ran may have come back
            self._find_closed_loops()
        if not self.channel.open:
            self.stop()

    def _check_at(self, slot: Slot, claim: Sent, now: int) -> None:
        if slot.busy and slot.words[DONE] == slot.sequence and self.channel.take_answer(slot):
            self.channel.watch(slot, claim.deadline_ns)  # because its output region may not have arrived yet
        if not slot.busy and self.channel.has_region(slot):
            self._settle(slot, claim)
        elif now >= claim.deadline_ns:
            self._end(slot, claim, self.channel.deadline_exceeded(slot))
        elif not self.channel.open:
            self._end(slot, claim, self._lost(slot))

    def _settle(self, slot: Slot, claim: Sent) -> None:
        slot.deadline_ns = NO_DEADLINE
        if slot.words[OUTPUT_REGION] != slot.output.number:
            self.channel.await_region(slot, claim.deadline_ns)
        del self._calls[slot]
        claim.answer(self, slot)

    def _lost(self, slot: Slot) -> BrokerError:
        return self.channel.gone(slot) if slot.busy else self.channel.answer_lost(slot)

    def _end(self, slot: Slot, claim: Sent, error: BaseException) -> None:
        del self._calls[slot]
        claim.fail(self, error)

    def stop(self, error: BrokerUnavailable | None = None) -> None:
        """End all calls, because the channel is closed or closing, for the reason in `error`."""
        if self._stopped:
            return
        self._stopped, self._reason = True, error
        self.channel.listeners.leave(self)
        event, self._event = self._event, None  # it is closed when nothing refers to it any more
        # A child's loop may share its epoll with the parent's, and the app may have a reader for a number that it
        # reused.
        if event is not None and self.channel.ours and not event.taken:
            self.loop.remove_reader(event.fd)
        self.deadline_ns = NO_DEADLINE
        for slot, sent in list(self._calls.items()):
            self._end(slot, sent, error or self._lost(slot))
        queue, self._queue = self._queue, deque()
        for claim in queue:
            claim.fail(self, self._gone())

    # -- any thread ----------------------------------------------------------------------------------------------

    def has_work(self, now_ns: int) -> bool:
        if self._queue and self.channel.has_free:
            return True
        return any(slot.done or sent.deadline_ns <= now_ns for slot, sent in list(self._calls.items()))

    def oldest_claim(self) -> int | None:
        try:
            return self._queue[0].number
        except IndexError:
            return None

    @property
    def woken(self) -> bool:
        return self._woken_ns != 0

    def wake(self) -> None:
        now = monotonic_ns()
        if self._woken_ns and now - self._woken_ns <= self._patience_ns:
            return
        # Wake it once more if it has not checked for long, because a signal handler may have raised before it did. The
        # pause doubles each time, because a loop that never runs again only collects callbacks.
        self._patience_ns = 2 * self._patience_ns if self._woken_ns else CHECK_NS
        self._woken_ns = now
        with contextlib.suppress(RuntimeError):  # the loop was closed just now
            self.loop.call_soon_threadsafe(self._on_event)

    def abandon(self) -> None:
        """Release the slots of calls. The slot of an open request is released when the request is garbage-collected."""
        self._stopped = True
        self._event = None
        self._queue.clear()
        for slot in list(self._calls):
            sent = self._calls.pop(slot, None)
            if isinstance(sent, AsyncCall):
                sent.slot = None
                self.channel.release(slot)

    def _gone(self) -> BrokerError:
        return self._reason or self.channel.gone()
