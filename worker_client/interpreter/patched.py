"""Detects whether gevent or eventlet patched this process. Imports neither, so a process without them pays only for one
or two checks."""

from __future__ import annotations

import _queue
import _thread
import os
import queue
import select
import sys
import threading
from typing import Any, Protocol


def gevent_has_patched() -> bool:
    """Whether threads are greenlets of gevent, and locks wait for greenlets."""
    return _has_patched("gevent.monkey", "is_module_patched", "threading")


def eventlet_has_patched() -> bool:
    return _has_patched("eventlet.patcher", "is_monkey_patched", "thread")


def in_native_thread() -> bool:
    """Whether this is a native thread of a patched process: one of the library's own pool, or another outside the main
    thread's event loop. Notifications between greenlets do not reach it, and it must not touch their loop."""
    return _thread.get_native_id() != os.getpid() and (gevent_has_patched() or eventlet_has_patched())


def simple_queue() -> queue.SimpleQueue[Any]:
    """A queue from which the calling thread, or greenlet, may take items that any thread puts in."""
    return _queue.SimpleQueue() if in_native_thread() else queue.SimpleQueue()


def in_hub() -> bool:
    """Whether this code runs in gevent's event loop itself, where nothing may wait. The garbage collector may run
    there."""
    if not gevent_has_patched():
        return False
    import gevent
    from gevent.hub import get_hub

    return gevent.getcurrent() is get_hub()


def may_join(thread: threading.Thread) -> bool:
    """Whether the caller may wait for the end of one of our threads, which is a greenlet if threading was patched."""
    return thread is not threading.current_thread() and not in_hub() and not in_native_thread()


POLLIN = 1


class Poll(Protocol):
    """The part of `select.poll` that is used."""

    def register(self, fd: int, events: int, /) -> None: ...

    def poll(self, milliseconds: float | None = None, /) -> list[tuple[int, int]]: ...


def poll() -> Poll:
    """A `select.poll`, or a replacement under eventlet, which leaves only `select.select`."""
    return select.poll() if hasattr(select, "poll") else _SelectPoll()


class _SelectPoll:
    def __init__(self) -> None:
        self._fds: list[int] = []

    def register(self, fd: int, events: int, /) -> None:
        if fd not in self._fds:
            self._fds.append(fd)

    def poll(self, milliseconds: float | None = None, /) -> list[tuple[int, int]]:
        seconds = None if milliseconds is None else milliseconds / 1000
        return [(fd, POLLIN) for fd in select.select(self._fds, [], [], seconds)[0]]


def _has_patched(module: str, question: str, what: str) -> bool:
    found = sys.modules.get(module)
    return found is not None and bool(getattr(found, question)(what))
