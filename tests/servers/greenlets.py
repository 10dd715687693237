"""The parts of gevent or eventlet that a green program needs, under one set of names. Importing it patches nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple


class Library(NamedTuple):
    spawn: Callable[..., Any]
    sleep: Callable[[float], None]
    timeout: Callable[[float], AbstractContextManager[Any]]
    timed_out: type[BaseException]
    kill: Callable[[Any], None]
    """Returns when the greenlet has ended."""
    value: Callable[[Any], Any]
    """What the greenlet returned, once it has."""
    in_native_thread: Callable[[Callable[[], Any]], Callable[[], Any]]
    """Starts the call in a native thread; what it gives back waits for the answer."""

    def wait_all(self, greenlets: Iterable[Any]) -> list[Any]:
        return [self.value(greenlet) for greenlet in greenlets]


def patched(name: str) -> Library:
    """Patch this process with the library of that name."""
    return {"gevent": _gevent, "eventlet": _eventlet}[name]()


def _gevent() -> Library:
    from gevent import monkey

    monkey.patch_all()
    import gevent

    def in_native_thread(call: Callable[[], Any]) -> Callable[[], Any]:
        result = gevent.get_hub().threadpool.spawn(call)
        return lambda: result.get(timeout=30)

    return Library(
        gevent.spawn,
        gevent.sleep,
        gevent.Timeout,
        gevent.Timeout,
        lambda greenlet: greenlet.kill(),
        lambda greenlet: greenlet.get(timeout=30),
        in_native_thread,
    )


def _eventlet() -> Library:
    import warnings

    warnings.simplefilter("ignore")  # that it is deprecated
    import eventlet

    eventlet.monkey_patch()
    from eventlet import greenthread, tpool

    def kill(greenlet: Any) -> None:
        greenlet.kill()
        eventlet.sleep(0)

    def in_native_thread(call: Callable[[], Any]) -> Callable[[], Any]:
        return eventlet.spawn(tpool.execute, call).wait

    return Library(
        greenthread.spawn,
        eventlet.sleep,
        eventlet.Timeout,
        eventlet.Timeout,
        kill,
        lambda greenlet: greenlet.wait(),
        in_native_thread,
    )
