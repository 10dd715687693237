"""The event loops of gevent and of eventlet, as far as a channel needs them. Neither is imported before that."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from typing import Any, Protocol

from worker_client.attachment.link import seconds_left
from worker_client.system import patched as monkey
from worker_client.wire.errors import DeadlineExceeded

_READ = 1  # libev's


class Waiter(Protocol):
    """What one greenlet at a time waits for."""

    def wait(self, timeout: float | None = None) -> Any:
        """Let other greenlets run until it is set, or `timeout` seconds have passed."""

    def set(self) -> None:
        """Any greenlet, and the hub itself."""

    def clear(self) -> None: ...


class Hub(Protocol):
    """The hub of the thread that made this object."""

    def spawn(self, function: Callable[[], None]) -> bool:
        """Have it run in a greenlet, asked by any thread. False if that cannot be done."""

    def new_waiter(self) -> Waiter: ...

    def listen(self, fd: int, on_readable: Callable[[], None]) -> Callable[[], None]:
        """Have the hub call `on_readable` whenever `fd` is readable; what ends that."""


class NoGreenlet(Exception):
    """There is no hub that another thread could have run something."""


def run_in_greenlet(hub: Hub | None, function: Callable[[], Any], deadline_ns: int) -> Any:
    """Have a greenlet of `hub` run it, for the native thread that calls, and return or raise what comes of it. Raises
    NoGreenlet, or DeadlineExceeded if the hub does not get to it in time."""
    outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = monkey.simple_queue()

    def run() -> None:
        try:
            outcome.put((function(), None))
        except BaseException as error:
            outcome.put((None, error))

    if hub is None or not hub.spawn(run):
        raise NoGreenlet
    try:
        value, error = outcome.get(timeout=seconds_left(deadline_ns))
    except queue.Empty:
        raise DeadlineExceeded(
            "no greenlet of the main thread could do its part of a native thread's call within the call's timeout: the "
            "event loop does not run; let the main thread wait by way of gevent"
        ) from None
    if error is not None:
        raise error
    return value


class GeventHub:
    def __init__(self) -> None:
        from gevent.event import Event
        from gevent.hub import get_hub

        self._hub = get_hub()
        self._new_event = Event

    def spawn(self, function: Callable[[], None]) -> bool:
        from gevent import spawn

        self._hub.loop.run_callback_threadsafe(spawn, function)
        return True

    def new_waiter(self) -> Waiter:
        waiter: Waiter = self._new_event()
        return waiter

    def listen(self, fd: int, on_readable: Callable[[], None]) -> Callable[[], None]:
        watcher = self._hub.loop.io(fd, _READ)
        watcher.start(on_readable)

        def stop() -> None:
            watcher.stop()
            watcher.close()

        return stop


class EventletHub:
    def __init__(self) -> None:
        from eventlet.hubs import get_hub

        self._hub = get_hub()

    def spawn(self, function: Callable[[], None]) -> bool:
        """Nothing of eventlet's wakes a hub from another thread."""
        return False

    def new_waiter(self) -> Waiter:
        return _EventletWaiter(self._hub)

    def listen(self, fd: int, on_readable: Callable[[], None]) -> Callable[[], None]:
        listener = self._hub.add(self._hub.READ, fd, lambda _: on_readable(), _ignore, _ignore)

        def stop() -> None:
            with contextlib.suppress(
                KeyError
            ):  # who opened another file under this number has had it removed
                self._hub.remove(listener)

        return stop


def _ignore(*_: object) -> None:
    """For a descriptor that is closed while the hub listens: we stop first."""


class _EventletWaiter:
    """Not `eventlet.event.Event`, which is set once and for all, nor threading's, which costs as much as a call."""

    __slots__ = ("_greenlet", "_hub", "_set")

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._set = False
        self._greenlet: Any = None  # that waits now

    def wait(self, timeout: float | None = None) -> None:
        if self._set:
            return
        import greenlet

        timer = None if timeout is None else self._hub.schedule_call_global(timeout, self._wake)
        self._greenlet = greenlet.getcurrent()
        try:
            self._hub.switch()
        finally:
            self._greenlet = None
            if timer is not None:
                timer.cancel()

    def set(self) -> None:
        if not self._set:
            self._set = True
            self._hub.schedule_call_global(0, self._wake)

    def clear(self) -> None:
        self._set = False

    def _wake(self) -> None:
        """In the hub. Who waited may have been killed or timed out meanwhile, and wait for something else."""
        if self._greenlet is not None:
            self._greenlet.switch()
