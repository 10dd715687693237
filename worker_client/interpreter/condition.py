"""Waiting for another thread, also if gevent or eventlet has patched threading, or if a signal handler raises."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque

from worker_client.interpreter import patched as monkey
from worker_client.interpreter.threads import Mutex
from worker_client.system.clock import monotonic_ns

_LONGEST_SECONDS = 1.0
_EVENTLET_SECONDS = 0.02


class Condition(Mutex):  # type: ignore[misc]  # final in typeshed only
    """Like `threading.Condition`, but it is the lock itself. `with` takes and releases a lock in C code, where no
    signal handler runs. The `__enter__` and `__exit__` of `threading.Condition` are Python code: a handler that raises
    there leaves the lock held for good. It is a real lock in patched processes, too: no greenlet may switch to another
    while it holds it.

    A thread may wake without a notification, and does so every second, because a handler that raises may cost one.
    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: deque[_Waiter] = deque()

    def wait(self, timeout: float | None = None) -> None:
        """Release the lock, wait for a notification or `timeout` seconds, and take the lock again."""
        waiter, told, state = _Waiter(), False, None
        try:
            self._waiters.append(waiter)
            state = self._release_save()  # type: ignore[attr-defined]
            told = waiter.wait(_LONGEST_SECONDS if timeout is None else min(timeout, _LONGEST_SECONDS))
        finally:
            if state is not None:
                self._acquire_restore(state)  # type: ignore[attr-defined]
            elif not self._is_owned():  # type: ignore[attr-defined]
                # a handler raised just after the release
                self.acquire()
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not told:  # it no longer waits, so the notification is for the next one
                self.notify()

    def notify(self) -> None:
        """Wake the thread that has waited longest. The caller holds the lock."""
        if self._waiters:
            self._waiters.popleft().wake()

    def notify_all(self) -> None:
        while self._waiters:
            self.notify()


class _Waiter:
    """One thread or greenlet, which waits once."""

    __slots__ = ("_asleep", "_native", "_polls", "_told")

    def __init__(self) -> None:
        self._told = False
        # Any thread may release a patched lock, unlike a patched queue; neither wakes a native thread.
        self._native = monkey.simple_queue() if monkey.in_native_thread() else None
        self._polls = monkey.eventlet_has_patched()  # a greenlet of eventlet is woken by its own thread only
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def wait(self, seconds: float) -> bool:
        """Whether it was woken."""
        if self._native is not None:
            with contextlib.suppress(queue.Empty):
                self._native.get(timeout=max(0.0, seconds))
        elif not self._polls:
            self._asleep.acquire(timeout=max(0.0, seconds))
        else:
            end = monotonic_ns() + int(seconds * 1e9)
            while not self._told and (left := (end - monotonic_ns()) / 1e9) > 0:
                self._asleep.acquire(timeout=min(left, _EVENTLET_SECONDS))
        return self._told

    def wake(self) -> None:
        self._told = True
        if self._native is not None:
            self._native.put(None)
        elif not (self._polls and monkey.in_native_thread()):
            self._asleep.release()
