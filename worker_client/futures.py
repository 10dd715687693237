"""Calls that nobody waits for in person: one thread per channel completes their futures.

submit -> slot in the ring, NOTIFY_BELL      broker: completes the slot, rings the channel's bell
deadline keeper, closing channel: ring the bell too
dispatcher: acquire bell -> look at every slot in flight -> set results, errors, expiries
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from worker_client.slot import Slot
from worker_client.wire import semaphore
from worker_client.wire.layout import NO_DEADLINE, NOTIFY_BELL

if TYPE_CHECKING:
    from worker_client.channel import Channel

Finish = Callable[[tuple[np.ndarray, ...]], Any]


class CallFuture(Future[Any]):
    """A `concurrent.futures.Future` of one call. `cancel()` works until the result is there."""

    def __init__(self, call: _Call) -> None:
        super().__init__()
        self._call: _Call | None = call
        self._slot: Slot | None = call.slot
        self._sequence = call.sequence

    def cancel(self) -> bool:
        cancelled, slot = super().cancel(), self._slot
        if cancelled and slot is not None:
            slot.cancel(self._sequence)  # means nothing to a later use of the slot
        return cancelled

    def add_done_callback(self, fn: Callable[[Future[Any]], Any]) -> None:
        if (call := self._call) is not None:
            call.kept = self  # who waits by a callback need not keep the future
        super().add_done_callback(fn)

    def let_go(self) -> None:
        """The call is over: keep no memory alive."""
        self._slot = self._call = None


class _Call:
    """What the dispatcher knows of a call. A future that nobody keeps is a request that nobody waits for: cancelled."""

    __slots__ = ("__weakref__", "deadline_ns", "finish", "future", "kept", "sequence", "slot")

    def __init__(self, slot: Slot, deadline_ns: int, finish: Finish) -> None:
        self.slot = slot
        self.sequence = slot.sequence + 1  # of the use of the slot that is about to begin
        self.deadline_ns = deadline_ns
        self.finish = finish
        self.kept: CallFuture | None = None
        self.future: Callable[[], CallFuture | None] = lambda: None

    def new_future(self) -> CallFuture:
        future = CallFuture(self)
        slot, sequence = self.slot, self.sequence
        self.future = weakref.ref(future, lambda _: slot.cancel(sequence))
        return future

    @property
    def cancelled(self) -> bool:
        future = self.future()
        return future is None or future.cancelled()


class FutureDispatcher:
    """The thread behind `submit`; it starts with the first future and ends with the channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._calls: dict[Slot, _Call] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, slot: Slot, signature_id: int, deadline_ns: int, finish: Finish) -> CallFuture:
        """Submit a written slot, and see to its release in any case. Any thread.

        `finish` makes the future's result of the views of the outputs.
        """
        call = None
        try:
            call = _Call(slot, deadline_ns, finish)
            future = call.new_future()
            self._calls[slot] = call
            slot.notify = NOTIFY_BELL
            self._start()
            if deadline_ns != NO_DEADLINE:
                # Before it is submitted: right after, it may be another call's slot.
                self._channel.watch(slot, deadline_ns)
            self._channel.submit(slot, signature_id, deadline_ns, NOTIFY_BELL)
            if monotonic_ns() >= deadline_ns:
                self._channel.bell.release()  # the deadline keeper may have rung before there was a call to look at
        except BaseException:
            if call is None or self._forget(call):  # else the dispatcher releases it
                self._channel.release(slot)
            raise
        return future

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._dispatch, name="onesession-futures", daemon=True)
                thread.start()
                self._thread = thread

    def join(self) -> None:
        """Wait for the thread's end, which the channel's closing brings about."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _dispatch(self) -> None:
        channel = self._channel
        while channel.open:
            semaphore.acquire(channel.bell)
            self._settle_all()
        self._settle_all()  # what was answered before the end
        for call in list(self._calls.values()):
            if self._forget(call):
                self._finish(call, channel.gone())

    def _forget(self, call: _Call) -> bool:
        """Take a call off the list. True for one thread only, which then sees to its slot."""
        with self._lock:
            if self._calls.get(call.slot) is not call:
                return False
            del self._calls[call.slot]
            return True

    def _settle_all(self) -> None:
        for call in list(self._calls.values()):
            self._settle(call, monotonic_ns())

    def _settle(self, call: _Call, now_ns: int) -> None:
        slot = call.slot
        error: Exception | None = None
        with self._lock:  # a `submit` that is broken off now gives the slot to whoever claims it next
            if not slot.busy or self._calls.get(slot) is not call:
                return  # not submitted yet, so `done` tells of the slot's last use; or not submitted at all
            if self._channel.take_answer(slot):
                pass
            elif now_ns >= call.deadline_ns:
                error = self._channel.deadline_exceeded(slot)
            elif not call.cancelled:
                return
            del self._calls[slot]
        self._finish(call, error)

    def _finish(self, call: _Call, error: Exception | None) -> None:
        """Give the slot back first: a future's callbacks may well submit the next call."""
        value = None
        future = call.future()
        try:
            if error is None and not call.slot.busy and not call.cancelled:
                self._channel.await_region(call.slot, call.deadline_ns)
                value = call.finish(call.slot.result())
        except Exception as raised:  # what the broker reports; no memory for the copy
            error = raised
        self._channel.release(call.slot)
        call.kept = None
        if future is None:
            return
        future.let_go()
        if not future.set_running_or_notify_cancel():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
