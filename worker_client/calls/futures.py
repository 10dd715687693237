"""Calls made through futures: one thread per channel completes them.

submit -> slot in the ring, NOTIFY_BELL      broker: completes the slot, rings the channel's bell
watcher thread, closing channel: ring the bell too
dispatcher: acquire bell -> check every slot in flight -> set results, errors, expiries
the broker goes away -> unanswered calls go to `PendingCall.on_lost`, with the inputs still in the slot
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from worker_client.attachment.retry_policy import Attempts, BrokerLost, ModelReplaced
from worker_client.attachment.slot import Slot
from worker_client.calls.timings import Timings
from worker_client.interpreter import fork, threads
from worker_client.interpreter import patched as monkey
from worker_client.interpreter.condition import Condition
from worker_client.system import limits
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import BrokerError, BrokerUnavailable
from worker_client.wire.layout import NO_DEADLINE, NOTIFY_BELL

if TYPE_CHECKING:
    from worker_client.ipc.semaphore import Semaphore  # other systems than Linux do not have it

_CANCELLED = (CANCELLED, CANCELLED_AND_NOTIFIED)
_ENDED = (FINISHED, *_CANCELLED)


class FutureChannel(Protocol):
    """What a channel offers to the thread that completes futures. `Channel` says what each method does."""

    bell: Semaphore

    @property
    def open(self) -> bool: ...

    @property
    def ours(self) -> bool: ...

    def submit(self, slot: Slot, signature_id: int, deadline_ns: int, notify: int) -> None: ...

    def watch(self, slot: Slot, deadline_ns: int) -> bool: ...

    def await_bell(self) -> None: ...

    def take_answer(self, slot: Slot) -> bool: ...

    def has_region(self, slot: Slot) -> bool: ...

    def await_region(self, slot: Slot, deadline_ns: int) -> None: ...

    def release(self, slot: Slot) -> None: ...

    def deadline_exceeded(self, slot: Slot) -> BrokerError: ...

    def gone(self, slot: Slot | None = None) -> BrokerError: ...


class CallFuture(Future[Any]):
    """A `concurrent.futures.Future` of one call. `cancel()` works until the result is there.

    It belongs to the process that made it. In a child forked meanwhile it fails with BrokerUnavailable, and none of
    its callbacks is called there.
    """

    def __init__(self, call: PendingCall) -> None:
        self._process = call.process
        super().__init__()
        self.timings: Timings | None = None
        """The timings of the call, once it has a result from its broker."""
        self._call: PendingCall | None = call
        self._right_to_end = [True]  # popped by the thread that ends the future, so that only one thread does

    @property  # type: ignore[override]
    def _condition(self) -> Condition:
        """The condition that every method of a future, and `concurrent.futures.wait`, acquires first."""
        if not self._process.word[0]:
            self._leave_parent()
        return self._own_condition

    @_condition.setter
    def _condition(self, _: threading.Condition) -> None:
        """In place of the constructor's condition, one that a signal handler cannot leave locked."""
        self._own_condition = Condition()

    def _leave_parent(self) -> None:
        """End the future in a child, without the parent's locks and callbacks."""
        self._own_condition = Condition()
        self._process = fork.here()
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []
        self._call = None
        if not self.done():
            self._exception = fork.not_ours("the call")
            self._state = FINISHED

    def cancel(self) -> bool:
        cancelled, call = super().cancel(), self._call
        if cancelled:
            if call is not None:
                call.cancel_use()
            self._begin_to_end()  # no broker may have the call, so nothing else would end it
        return cancelled

    def result(self, timeout: float | None = None) -> Any:
        """The call's result, as `concurrent.futures.Future.result`."""
        error = self.exception(timeout)
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error, self  # the traceback would keep both alive

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The call's error or None, as `concurrent.futures.Future.exception`."""
        self._await(timeout)
        if self._state != FINISHED:
            raise CancelledError() if self._state in _CANCELLED else FutureTimeout()
        return self._exception

    def _await(self, timeout: float | None) -> None:
        """Wait for the end, or until `timeout` has passed."""
        deadline_ns = None if timeout is None else monotonic_ns() + int(timeout * 1e9)
        condition = self._condition
        with condition:
            while self._state not in _ENDED:
                left = None if deadline_ns is None else (deadline_ns - monotonic_ns()) / 1e9
                if left is not None and left <= 0:
                    return
                condition.wait(left)

    def add_done_callback(self, fn: Callable[[Future[Any]], Any]) -> None:
        if (call := self._call) is not None:
            call.kept = self  # code that only waits for a callback need not keep the future
        super().add_done_callback(fn)

    def end(self, value: Any, error: BaseException | None) -> None:
        """Set the outcome, and keep no memory alive. Does nothing to a future that has ended or is cancelled."""
        self._call = None
        if not self._begin_to_end():
            return
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(value)

    def _begin_to_end(self) -> bool:
        try:
            self._right_to_end.pop()
        except IndexError:
            return False
        return self.set_running_or_notify_cancel()


class PendingCall:
    """The call behind a future: enough to make its result, and to run it again on another broker. If nothing keeps the
    future, the request is cancelled.

    `on_lost` takes over a call whose broker went away. `send_again` then waits for the next one, binds, writes `inputs`
    into a slot and gives it to a dispatcher. `finish` makes the future's result from the views of the outputs.
    `finish`, `inputs` and `slot` belong to the broker to which the call was last sent.
    """

    __slots__ = (
        "__weakref__",
        "attempts",
        "deadline_ns",
        "finish",
        "future",
        "inputs",
        "kept",
        "on_lost",
        "process",
        "send_again",
        "sequence",
        "slot",
    )

    slot: Slot
    finish: Callable[[tuple[np.ndarray, ...]], Any]

    def __init__(
        self,
        on_lost: Callable[[PendingCall, BrokerLost], None],
        send_again: Callable[[PendingCall], None],
        inputs: Any,
        deadline_ns: int,
        attempts: Attempts,
    ) -> None:
        self.process = fork.here()
        self.on_lost = on_lost
        self.send_again = send_again
        self.inputs = inputs
        self.deadline_ns = deadline_ns
        self.attempts = attempts
        self.sequence = 0  # the number of the slot's use; 0 while the call has no slot
        self.kept: CallFuture | None = None
        self.future: Callable[[], CallFuture | None] = lambda: None

    def new_future(self) -> CallFuture:
        future, weakly = CallFuture(self), weakref.ref(self)

        def on_drop(_: object) -> None:
            if (call := weakly()) is not None:
                call.cancel_use()

        self.future = weakref.ref(future, on_drop)
        return future

    @property
    def cancelled(self) -> bool:
        future = self.future()
        return future is None or future.cancelled()

    def enter(self, slot: Slot) -> None:
        """Note the slot in which the call is about to be submitted."""
        self.sequence = (
            0  # another thread may cancel meanwhile: it must never combine one slot with another slot's use
        )
        self.slot = slot
        self.sequence = slot.sequence + 1

    def leave(self) -> None:
        """Note that the call was not submitted: another call may use the slot next."""
        self.sequence = 0

    def cancel_use(self) -> None:
        """Cancel the request if the broker has it. A later use of the slot is not affected."""
        if self.sequence and self.process.word[0]:
            self.slot.cancel(self.sequence)

    def lose(self, lost: BrokerLost) -> None:
        """Count the loss of a broker. Raises the error the caller sees if the call must not be run again."""
        self.attempts = self.attempts.after(lost)

    def end(self, value: Any, error: BaseException | None, timings: Timings | None = None) -> None:
        """Set the future's result, or its error."""
        if isinstance(error, MemoryError):
            error = limits.no_memory(error)
        future, self.kept = self.future(), None
        if future is not None:
            future.timings = timings
            future.end(value, error)


class FutureDispatcher:
    """The thread behind `submit`; it starts with the first future and ends with the channel."""

    def __init__(self, channel: FutureChannel) -> None:
        self._channel = channel
        self._calls: dict[Slot, PendingCall] = {}
        self._without_region: set[Slot] = set()  # answered, but the region of the answer has not arrived yet
        self._lock = threading.RLock()
        self._starting = False
        self._thread: threading.Thread | None = None

    def submit(self, call: PendingCall, slot: Slot, signature_id: int) -> None:
        """Submit a written slot, and make sure that it is released. Any thread may call."""
        entered = False
        try:
            call.enter(slot)
            slot.notify = NOTIFY_BELL
            self._calls[slot] = call
            entered = True
            self.start(call.deadline_ns)
            if call.deadline_ns != NO_DEADLINE:
                # Before it is submitted: right afterwards the slot may belong to another call.
                self._channel.watch(slot, call.deadline_ns)
            self._channel.submit(slot, signature_id, call.deadline_ns, NOTIFY_BELL)
            if monotonic_ns() >= call.deadline_ns:
                self._channel.bell.release()  # the watcher may have rung before the call was in the ring
        except BaseException as error:
            if not entered or self._take(call):
                call.leave()
                self._channel.release(slot)
            elif isinstance(error, BrokerUnavailable):
                return  # the dispatcher has already ended the call, as it ended itself
            raise

    @property
    def started(self) -> bool:
        return self._thread is not None and not self._starting

    def start(self, deadline_ns: int) -> None:
        """Start the thread, if it does not run yet."""
        if self.started:
            return
        with self._lock:
            if self._starting:
                raise BrokerError(
                    "a signal handler cannot submit while the call it interrupted makes the first future"
                )
            if self._thread is None:
                self._starting = True
                try:
                    thread = threading.Thread(target=self._dispatch, name="onesession-futures", daemon=True)
                    threads.start(thread)
                    self._thread = thread
                finally:
                    self._starting = False

    def join(self) -> None:
        """Wait for the thread, which ends when the channel is closed."""
        if self._thread is not None and monkey.may_join(self._thread):
            self._thread.join()

    def _dispatch(self) -> None:
        channel = self._channel
        while channel.open:
            channel.await_bell()
            if not channel.ours:
                break
            self._settle_all()
        if not channel.ours:  # this is a greenlet, which a fork has copied
            return
        self._settle_all()  # calls that were answered before the end
        for call in list(self._calls.values()):
            self._lose(call)

    def _settle_all(self) -> None:
        for call in list(self._calls.values()):
            self._settle(call, monotonic_ns())

    def _settle(self, call: PendingCall, now_ns: int) -> None:
        slot = call.slot
        error: Exception | None = None
        with self._lock:  # a `submit` that is interrupted now releases the slot to another call
            if self._calls.get(slot) is not call or not (slot.busy or slot in self._without_region):
                return  # not submitted yet, so `done` is about the slot's last use; or not submitted at all
            answered = slot in self._without_region or self._channel.take_answer(slot)
            if answered and (self._channel.has_region(slot) or not self._channel.open):
                pass
            elif now_ns >= call.deadline_ns:
                error = self._channel.deadline_exceeded(slot)
            elif not call.cancelled:
                if answered and slot not in self._without_region:
                    self._without_region.add(slot)
                    self._channel.watch(slot, call.deadline_ns)
                return
            self._without_region.discard(slot)
            del self._calls[slot]
        self._finish(call, error)

    def _finish(self, call: PendingCall, error: Exception | None) -> None:
        """End the future. The slot is released first, because the future's callbacks may submit the next call."""
        value = timings = None
        try:
            if error is None and not call.slot.busy and not call.cancelled:
                self._channel.await_region(call.slot, call.deadline_ns)
                outputs = call.slot.result()
                timings = Timings.of(call.slot)
                value = call.finish(outputs)
        except Exception as raised:  # an error that the broker reports, or no memory for the copy
            error = raised
        if isinstance(error, ModelReplaced):
            error = self._leave_slot(call, error)
        if isinstance(error, BrokerLost):
            call.on_lost(call, error)
        else:
            self._channel.release(call.slot)
            call.end(value, error, timings)

    def _leave_slot(self, call: PendingCall, moved: ModelReplaced) -> Exception:
        """Copy the inputs and release the slot, because the channel is open and another call may use it. Returns the
        call's error."""
        try:
            call.inputs = {name: view.copy() for name, view in call.inputs.items()}
        except MemoryError as error:
            return error
        self._channel.release(call.slot)
        return moved

    def _lose(self, call: PendingCall) -> None:
        """Handle a call whose channel is closed. The slot is not released, because its inputs may be needed again."""
        if not self._take(call):
            return
        error = self._channel.gone(call.slot)
        if isinstance(error, BrokerLost):
            call.on_lost(call, error)
        else:
            call.end(None, error)

    def _take(self, call: PendingCall) -> bool:
        """Remove a call from the list. True for one thread only, which must then release its slot."""
        with self._lock:
            if self._calls.get(call.slot) is not call:
                return False
            del self._calls[call.slot]
            self._without_region.discard(call.slot)
            return True
