"""The event loops of gevent and of eventlet, as far as a channel needs them. Neither is imported before that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

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

    def is_here(self) -> bool:
        """Whether the caller's greenlet belongs to it: it does not in a native thread."""

    def new_waiter(self) -> Waiter: ...

    def listen(self, fd: int, look: Callable[[], None]) -> Callable[[], None]:
        """Have the hub call `look` whenever `fd` is readable; what ends that."""


class GeventHub:
    def __init__(self) -> None:
        from gevent.event import Event
        from gevent.hub import get_hub

        self._get_hub = get_hub
        self._hub = get_hub()
        self._new_event = Event

    def is_here(self) -> bool:
        return self._get_hub() is self._hub

    def new_waiter(self) -> Waiter:
        waiter: Waiter = self._new_event()
        return waiter

    def listen(self, fd: int, look: Callable[[], None]) -> Callable[[], None]:
        watcher = self._hub.loop.io(fd, _READ)
        watcher.start(look)

        def stop() -> None:
            watcher.stop()
            watcher.close()

        return stop


class EventletHub:
    def __init__(self) -> None:
        from eventlet.hubs import get_hub

        self._get_hub = get_hub
        self._hub = get_hub()

    def is_here(self) -> bool:
        return self._get_hub() is self._hub

    def new_waiter(self) -> Waiter:
        return _EventletWaiter(self._hub)

    def listen(self, fd: int, look: Callable[[], None]) -> Callable[[], None]:
        listener = self._hub.add(self._hub.READ, fd, lambda _: look(), _ignore, _ignore)

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
