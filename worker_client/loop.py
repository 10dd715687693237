"""The calls of one event loop on one channel: no thread, no poll, one descriptor for all of them.

submit -> slot in the ring, NOTIFY_EVENT     broker: completes the slot, sets the channel's event
deadline keeper, closing channel: set the event too
event readable -> look at every slot in flight -> wake the tasks whose call is over
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic_ns
from typing import NamedTuple

from worker_client.channel import Channel
from worker_client.slot import Slot
from worker_client.wire.errors import BrokerUnavailable, Overloaded
from worker_client.wire.event import Event
from worker_client.wire.layout import NO_DEADLINE, NOTIFY_EVENT, OUTPUT_REGION


class _Call(NamedTuple):
    over: asyncio.Future[None]
    deadline_ns: int


class LoopCalls:
    """Belongs to the loop that made it; every method is called there."""

    def __init__(self, channel: Channel, event: Event) -> None:
        self.channel = channel
        self.loop = asyncio.get_running_loop()
        self._event = event
        self._calls: dict[Slot, _Call] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._growing = False
        self._stopped = False
        self.loop.add_reader(event.fd, self._look)
        self._look()  # it may have been closed before we listened

    def __repr__(self) -> str:
        return f"<LoopCalls {len(self._calls)} under way, {len(self._waiters)} waiting, of {self.channel!r}>"

    # -- slots ---------------------------------------------------------------------------------------------------

    async def claim(self, nbytes: int, deadline_ns: int) -> Slot:
        """As `Channel.claim`; tasks get slots in the order they asked. Raises Overloaded or BrokerUnavailable."""
        while True:
            if not self.channel.open:
                raise self.channel.gone()
            if not self._waiters or self._growing:
                slot = self.channel.claim_at_once(nbytes)
                if slot is not None:
                    return slot
                if self.channel.may_grow and not self._growing:
                    return await self._claim_in_thread(nbytes, deadline_ns)
            await self._turn(deadline_ns)
            slot = self.channel.claim_at_once(nbytes)
            if slot is not None:
                return slot

    def release(self, slot: Slot) -> None:
        self.channel.release(slot)
        self._wake_one()

    async def _claim_in_thread(self, nbytes: int, deadline_ns: int) -> Slot:
        """Another block of slots, or a larger region, is asked for over the control socket, which blocks."""
        self._growing = True
        claim = self.loop.run_in_executor(None, self.channel.claim, nbytes, deadline_ns)
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            claim.add_done_callback(self._give_back)
            raise
        finally:
            self._growing = False
            for _ in range(len(self._waiters)):
                self._wake_one()

    def _give_back(self, claim: asyncio.Future[Slot]) -> None:
        if not claim.cancelled() and claim.exception() is None:
            self.release(claim.result())

    async def _turn(self, deadline_ns: int) -> None:
        """Wait until a slot may be free."""
        waiter = self.loop.create_future()
        self._waiters.append(waiter)
        timer = None
        if deadline_ns != NO_DEADLINE:
            seconds = max(0.0, (deadline_ns - monotonic_ns()) / 1e9)
            timer = self.loop.call_later(seconds, self._out_of_time, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake_one()  # the turn was ours, and goes to the next
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _out_of_time(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_exception(
                Overloaded(
                    f"all {len(self.channel.slots)} slots of this worker were in flight until the deadline; send less "
                    "at a time or raise the broker's max_slots"
                )
            )

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    # -- calls ---------------------------------------------------------------------------------------------------

    async def run(self, slot: Slot, signature_id: int, deadline_ns: int) -> None:
        """Submit a written slot; return when its result may be read. Raises DeadlineExceeded and the like.

        A task that is cancelled cancels its request when it releases the slot.
        """
        over = self.loop.create_future()
        self._calls[slot] = _Call(over, deadline_ns)
        slot.notify = NOTIFY_EVENT
        try:
            self.channel.submit(slot, signature_id, deadline_ns, NOTIFY_EVENT)
            if deadline_ns != NO_DEADLINE:
                self.channel.watch(slot, deadline_ns)
            await over
            if slot.words[OUTPUT_REGION] != slot.output_region:
                await self.loop.run_in_executor(None, self.channel.await_region, slot, deadline_ns)
        finally:
            self._calls.pop(slot, None)
            slot.deadline_ns = NO_DEADLINE

    def _look(self) -> None:
        """Wake every task whose call is over."""
        if self._stopped:
            return
        self._event.clear()
        now = monotonic_ns()
        for slot, call in list(self._calls.items()):
            if call.over.done() or not slot.busy:
                continue
            if self.channel.take_answer(slot):
                call.over.set_result(None)
            elif now >= call.deadline_ns:
                call.over.set_exception(self.channel.deadline_exceeded(slot))
            elif not self.channel.open:
                call.over.set_exception(self.channel.gone(ran=True))
        if self._waiters:
            self._wake_one()  # a slot that was given up while it ran may have come back
        if not self.channel.open:
            self.stop()

    def stop(self, error: BrokerUnavailable | None = None) -> None:
        """The channel is closed, or about to be, for the reason that `error` gives."""
        if self._stopped:
            return
        self._stopped = True
        self.loop.remove_reader(self._event.fd)
        self._event.close()
        for slot, call in list(self._calls.items()):
            if not call.over.done():
                call.over.set_exception(error or self.channel.gone(ran=slot.busy))
        for waiter in list(self._waiters):
            if not waiter.done():
                waiter.set_exception(error or self.channel.gone())
