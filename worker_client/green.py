"""Under gevent's monkey patching: a call lets the other greenlets run while it waits.

submit -> slot in the ring, NOTIFY_EVENT     broker: completes the slot, sets the channel's event
event readable -> the hub looks at every waiting call -> the greenlets whose call is over go on

Everything else that may wait (locks, the control socket, the watcher and the dispatcher, which are greenlets then)
goes through modules that gevent has patched. Semaphores are what it cannot patch: a greenlet never waits on one.
A process without gevent, or with gevent but unpatched, pays one look into `sys.modules` when it attaches.
"""

from __future__ import annotations

import threading
from time import monotonic_ns
from typing import Any

from worker_client import monkey
from worker_client.channel import Channel
from worker_client.link import ControlLink
from worker_client.slot import Slot
from worker_client.wire import control, semaphore
from worker_client.wire.errors import BrokerError
from worker_client.wire.layout import (
    NO_DEADLINE,
    NOTIFY_BELL,
    NOTIFY_EVENT,
    NOTIFY_SLOT,
    OUTPUT_REGION,
)
from worker_client.wire.waiting import WaitMode


def channel_type() -> type[Channel]:
    """What this process attaches with. Raises BrokerError under eventlet, whose hub every wait would block."""
    if monkey.gevent_has_patched():
        return GreenChannel
    if monkey.eventlet_has_patched():
        raise BrokerError(
            "this process runs under eventlet, which the client cannot wait with; use gevent or threads"
        )
    return Channel


class _Bell(semaphore.NoSemaphore):
    """What the dispatcher of futures waits for, in place of a semaphore."""

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        from gevent.event import Event

        self._rung = Event()

    def acquire(self, timeout: float | None = None) -> None:
        self._rung.wait(timeout)
        self._rung.clear()

    def release(self) -> None:
        self._rung.set()


class GreenChannel(Channel):
    """A channel of the hub in whose thread it was made. Calls of other threads, gevent's thread pool, block there."""

    def __init__(self, link: ControlLink, reply: control.Message, fd: int, mode: WaitMode) -> None:
        from gevent.event import Event
        from gevent.hub import get_hub

        super().__init__(link, reply, fd, mode)
        self.bell = _Bell()
        self._get_hub = get_hub
        self._new_event = Event
        self._hub = get_hub()
        self._waiters: dict[Slot, Any] = {}
        self._watcher: Any = None
        self._listening = threading.Lock()

    def submit(self, slot: Slot, signature_id: int, deadline_ns: int, notify: int = NOTIFY_SLOT) -> None:
        if notify == NOTIFY_BELL or (notify == NOTIFY_SLOT and self._get_hub() is self._hub):
            if self._watcher is None:
                self._listen()
            notify = slot.notify = NOTIFY_EVENT
        super().submit(slot, signature_id, deadline_ns, notify)

    def wait(self, slot: Slot, deadline_ns: int) -> None:
        if slot.notify != NOTIFY_EVENT:
            super().wait(slot, deadline_ns)
            return
        waiter = self._waiters[slot] = self._new_event()
        try:
            # Nothing is missed: the hub, which looks, runs only when we wait.
            while not self.take_answer(slot):
                if not self.open:
                    raise self.gone(ran=True)
                left = None if deadline_ns == NO_DEADLINE else (deadline_ns - monotonic_ns()) / 1e9
                if left is not None and left <= 0:
                    raise self.deadline_exceeded(slot)
                waiter.wait(left)
                waiter.clear()
        finally:  # gevent.Timeout and kill() come out of `wait`; the caller then gives the slot back
            del self._waiters[slot]
        if slot.words[OUTPUT_REGION] != slot.output_region:
            self.await_region(slot, deadline_ns)

    def dispose(self) -> None:
        self._stop_listening()
        super().dispose()

    def _listen(self) -> None:
        with self._listening:  # asking the broker for the event lets other greenlets run
            if not self.open:
                raise self.gone()
            if self._watcher is None:
                event = self.open_event()
                watcher = self._hub.loop.io(event.fd, 1)
                watcher.start(self._look)
                self._watcher = watcher

    def _stop_listening(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
            watcher.close()

    def _look(self) -> None:
        """In the hub: wake the calls that are over; the dispatcher looks for itself."""
        event = self.event
        if event is None:
            return
        event.clear()
        if not self.open:
            self._stop_listening()
            event.close()
        for slot, waiter in self._waiters.items():
            if slot.done or not self.open:
                waiter.set()
        self.bell.release()
