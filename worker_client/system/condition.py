"""Waiting for another thread, also where gevent or eventlet has patched threading."""

from __future__ import annotations

import threading
from time import sleep

from worker_client.system import patched as monkey
from worker_client.system.clock import monotonic_ns
from worker_client.system.threads import Mutex

_CHECK_SECONDS = 0.001
_EVENTLET_CHECK_SECONDS = 0.02


class Condition(threading.Condition):
    """Like `threading.Condition`, in processes that are not patched. In patched ones its lock is a real lock, under
    which no greenlet may switch to another, and some waiters poll for the notification:

    - a native thread, which notifications between greenlets do not reach;
    - every greenlet of eventlet, which another thread cannot wake.
    """

    def __init__(self) -> None:
        super().__init__(Mutex())
        self._notified = 0

    def wait(self, timeout: float | None = None) -> bool:
        if monkey.in_native_thread():
            return self._poll(timeout, _CHECK_SECONDS)
        if monkey.eventlet_has_patched():
            return self._poll(timeout, _EVENTLET_CHECK_SECONDS)
        return super().wait(timeout)

    def notify(self, n: int = 1) -> None:
        self._notified += 1
        super().notify(n)

    def _poll(self, timeout: float | None, pause: float) -> bool:
        before, end = self._notified, None if timeout is None else monotonic_ns() + int(timeout * 1e9)
        while self._notified == before and (end is None or monotonic_ns() < end):
            self.release()
            try:
                sleep(pause)
            finally:
                self.acquire()
        return self._notified != before
