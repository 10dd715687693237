"""The event loops of gevent and of eventlet, as far as a channel needs them. Neither library is imported before a
channel needs it."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from typing import Any, Protocol

from worker_client.attachment.link import seconds_left
from worker_client.interpreter import patched as monkey
from worker_client.wire.errors import DeadlineExceeded

_READ = 1  # libev's


class Waiter(Protocol):
    """An object for which one greenlet at a time waits."""

    def wait(self, timeout: float | None = None) -> Any:
        """Let other greenlets run until it is set, or `timeout` seconds have passed."""

    def set(self) -> None:
        """Wake the greenlet that waits. Any greenlet may call, and the hub itself."""

    def clear(self) -> None: ...


class Hub(Protocol):
    """The hub of the thread that made this object."""

    def spawn(self, function: Callable[[], None]) -> bool:
        """Have `function` run in a greenlet. Any thread may call. False if that is impossible."""

    def new_waiter(self) -> Waiter: ...

    def listen(self, fd: int, on_readable: Callable[[], None]) -> Callable[[], None]:
        """Have the hub call `on_readable` whenever `fd` is readable. Returns a function that ends this."""


class NoGreenlet(Exception):
    """No hub can run a function for another thread."""


def run_in_greenlet(hub: Hub | None, function: Callable[[], Any], deadline_ns: int) -> Any:
    """Have a greenlet of `hub` run `function` for the native thread that calls; return its value or raise its error.
    Raises NoGreenlet, or DeadlineExceeded if the hub does not run it in time."""
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
            "event loop does not run; let the main thread wait through gevent"
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
        """False: eventlet has no way to wake a hub from another thread."""
        return False

    def new_waiter(self) -> Waiter:
        return _EventletWaiter(self._hub)

    def listen(self, fd: int, on_readable: Callable[[], None]) -> Callable[[], None]:
        listener = self._hub.add(self._hub.READ, fd, lambda _: on_readable(), _ignore, _ignore)

        def stop() -> None:
            with contextlib.suppress(
                KeyError
            ):  # code that opened another file under this number had it removed
                self._hub.remove(listener)

        return stop


def _ignore(*_: object) -> None:
    """Does nothing. The hub calls it if a descriptor is closed while the hub listens; the channel stops listening
    first."""


class _EventletWaiter:
    """A waiter for eventlet. `eventlet.event.Event` can be set only once, and threading's costs as much as a call."""

    __slots__ = ("_greenlet", "_hub", "_set")

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._set = False
        self._greenlet: Any = None  # the greenlet that waits now

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
        """Resume the greenlet that waits, if it has not been killed or timed out meanwhile. The hub calls this."""
        if self._greenlet is not None:
            self._greenlet.switch()
