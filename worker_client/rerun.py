"""Futures whose broker went away: run again on the next one, with the inputs that still stand in their old slots.

One thread, which is there only while there is something to do. It takes the call with the earliest deadline first:
while that one waits, for the broker or for a slot, no other's deadline passes.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from worker_client.absence import BrokerLost
from worker_client.wire.errors import BrokerUnavailable

if TYPE_CHECKING:
    from worker_client.futures import Call


class Reruns:
    """Of one connection. `add` and `close` may come from any thread."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._current: Call | None = None
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None

    def add(self, call: Call, lost: BrokerLost) -> None:
        """Take over a call whose broker went away; end its future if it may not be run again."""
        try:
            call.lose(lost)
        except BrokerUnavailable as error:
            call.end(None, error)
            return
        with self._lock:
            self._calls.append(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="onesession-reruns", daemon=True)
                self._thread.start()

    def close(self, error: BrokerUnavailable) -> threading.Thread | None:
        """Take no call any more of those that are there; their futures get `error`. The thread that may still be
        busy with one: it ends when the connection's closing reaches it."""
        with self._lock:
            calls, self._calls = self._calls, []
            thread = self._thread
        for call in calls:
            call.end(None, error)
        return thread

    def forget(self, error: BrokerUnavailable) -> None:
        """In a forked child: the parent's calls end here."""
        self._lock = threading.RLock()
        self._thread = None
        calls, self._calls = self._calls, []
        for call in [*calls, self._current]:
            if call is not None:
                call.forget(error)
        self._current = None

    def _run(self) -> None:
        while (call := self._take_earliest()) is not None:
            self._run_again(call)

    def _take_earliest(self) -> Call | None:
        with self._lock:
            self._current = None
            if not self._calls:
                self._thread = None
                return None
            call = self._current = min(self._calls, key=lambda call: call.deadline_ns)
            self._calls.remove(call)
            return call

    def _run_again(self, call: Call) -> None:
        try:
            if not call.cancelled:
                call.connection.channel(call.deadline_ns, closings=call.closings)
            if not call.cancelled:  # while it waited for the broker
                call.send(call)
        except BrokerLost as lost:
            self.add(call, lost)
        except BaseException as error:
            call.end(None, error)
