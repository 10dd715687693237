"""Under monkey patching by gevent or eventlet: a call lets the other greenlets run while it waits.

submit -> slot in the ring, NOTIFY_EVENT     broker: completes the slot, sets the channel's event
event readable -> the hub checks every waiting call -> the greenlets whose call has ended go on

Everything else that may wait (locks, the control socket, and the watcher and the dispatcher, which are greenlets then)
goes through modules that have been patched. Semaphores cannot be patched, so a greenlet never waits on one. A process
without either library, or with a library that has patched nothing, pays two look-ups in `sys.modules` when it attaches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from worker_client.attachment.link import ControlLink
from worker_client.attachment.slot import Slot
from worker_client.calls.channel import Channel
from worker_client.calls.futures import FutureDispatcher
from worker_client.green.hubs import EventletHub, GeventHub, Hub, NoGreenlet, Waiter, run_in_greenlet
from worker_client.interpreter import patched as monkey
from worker_client.ipc import semaphore
from worker_client.ipc.waiting import WaitMode
from worker_client.system.clock import monotonic_ns
from worker_client.system.descriptor import Descriptor
from worker_client.wire import control
from worker_client.wire.errors import BrokerError
from worker_client.wire.layout import (
    NO_DEADLINE,
    NOTIFY_BELL,
    NOTIFY_EVENT,
    NOTIFY_SLOT,
    OUTPUT_REGION,
)

MakeChannel = Callable[[ControlLink, control.Message, Descriptor, WaitMode, int], Channel]


def hub() -> Hub | None:
    """The hub of the calling thread, if greenlets run there."""
    if monkey.in_native_thread():
        return None
    if monkey.gevent_has_patched():
        return GeventHub()
    return EventletHub() if monkey.eventlet_has_patched() else None


def channel_type() -> MakeChannel:
    """The class, or factory, of the channels that this process makes."""
    here = hub()
    return Channel if here is None else lambda *arguments: GreenChannel(here, *arguments)


def _part_of_hub(hub: Hub, function: Callable[[], None], deadline_ns: int) -> None:
    """Run a function that changes the event loop, in the loop's own thread."""
    if not monkey.in_native_thread():
        function()
        return
    try:
        run_in_greenlet(hub, function, deadline_ns)
    except NoGreenlet:
        raise BrokerError(
            "a native thread cannot make a future in a process that eventlet has patched before a greenlet has; "
            "call predict, which may block here"
        ) from None


class _Futures(FutureDispatcher):
    """A dispatcher whose thread is a greenlet of the hub."""

    def __init__(self, channel: Channel, hub: Hub) -> None:
        super().__init__(channel)
        self._hub = hub

    def start(self, deadline_ns: int) -> None:
        if not self.started:
            _part_of_hub(self._hub, lambda: super(_Futures, self).start(deadline_ns), deadline_ns)


class _Bell(semaphore.ReleasedSemaphore):
    """The object that the dispatcher of futures waits for, in place of a semaphore."""

    __slots__ = ("_check_later", "_rung")

    def __init__(self, rung: Waiter, check_later: Callable[[], None]) -> None:
        self._rung = rung
        self._check_later = check_later

    def acquire(self, timeout: float | None = None) -> None:
        self._rung.wait(timeout)
        self._rung.clear()

    def release(self) -> None:
        if monkey.in_native_thread():
            self._check_later()
        else:
            self._rung.set()


class GreenChannel(Channel):
    """A channel of the main thread's hub, which runs all its parts. Calls in native threads, such as those of the
    library's own pool, block their thread."""

    def __init__(
        self,
        hub: Hub,
        link: ControlLink,
        reply: control.Message,
        fd: Descriptor,
        mode: WaitMode,
        deadline_ns: int,
    ) -> None:
        super().__init__(link, reply, fd, mode, deadline_ns)
        self.bell = _Bell(hub.new_waiter(), self._check_later)
        self._hub = hub
        self._waiters: dict[Slot, Waiter] = {}
        self._stop: Callable[[], None] | None = None  # makes the hub stop listening
        self._listening = threading.Lock()
        self.futures = _Futures(self, hub)

    def submit(self, slot: Slot, signature_id: int, deadline_ns: int, notify: int = NOTIFY_SLOT) -> None:
        if notify == NOTIFY_BELL or (notify == NOTIFY_SLOT and not monkey.in_native_thread()):
            if self._stop is None:
                _part_of_hub(self._hub, lambda: self._listen(deadline_ns), deadline_ns)
            notify = slot.notify = NOTIFY_EVENT
        super().submit(slot, signature_id, deadline_ns, notify)

    def wait(self, slot: Slot, deadline_ns: int) -> None:
        if slot.notify != NOTIFY_EVENT:
            super().wait(slot, deadline_ns)
            return
        waiter = self._waiters[slot] = self._hub.new_waiter()
        try:
            # Nothing is missed, because the hub, which checks, runs only while this greenlet waits.
            while self.ours and not self.take_answer(slot):
                if not self.open:
                    raise self.gone(slot)
                left = None if deadline_ns == NO_DEADLINE else (deadline_ns - monotonic_ns()) / 1e9
                if left is not None and left <= 0:
                    self._check_event()
                    raise self.deadline_exceeded(slot)
                waiter.wait(left)
                waiter.clear()
        finally:  # a timeout or a kill() raises out of `wait`; the caller then releases the slot
            del self._waiters[slot]
        if not self.ours:  # a greenlet that a fork has copied
            raise self.gone(slot)
        if slot.words[OUTPUT_REGION] != slot.output.number:
            self.await_region(slot, deadline_ns)

    def dispose(self) -> None:
        self._stop_listening()
        super().dispose()
        if self.ours:  # in a child the waiters are copies of the parent's, and stay asleep
            # the event was set for them, but the hub no longer listens to it
            for waiter in list(self._waiters.values()):
                waiter.set()

    def _listen(self, deadline_ns: int) -> None:
        with self._listening:  # asking the broker for the event lets other greenlets run
            if not self.open:
                raise self.gone()
            if self._stop is None:
                event = self.open_event(deadline_ns)
                event.otherwise = self._on_event
                self._stop = self._hub.listen(event.fd, self._on_event)

    def _check_later(self) -> None:
        if (event := self.event) is not None:
            event.set()

    def _stop_listening(self) -> None:
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    def _check_event(self) -> None:
        if self.event is not None and not self.event.ours:
            self.lose()

    def _on_event(self) -> None:
        """Wake the calls that have ended; the dispatcher checks its own. The hub calls this."""
        event = self.event
        if event is None or not self.ours:
            self._stop_listening()
            return
        if not event.clear():
            self.lose()
        if not self.open:
            self._stop_listening()
            event.close()
        for slot, waiter in self._waiters.items():
            if slot.done or not self.open:
                waiter.set()
        self.bell.release()
