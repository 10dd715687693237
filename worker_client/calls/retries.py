"""Futures whose broker went away: they are run again on the next broker, with the inputs that are still in their old
slots.

A thread, which exists only while there is work, takes the call with the earliest deadline first: while that call waits
for the broker or for a slot, no other deadline passes. A later call that has less time left than all waiting ones gets
its own thread.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from worker_client.attachment.retry_policy import BrokerLost
from worker_client.interpreter import threads
from worker_client.wire.errors import BrokerError, BrokerUnavailable, Overloaded

if TYPE_CHECKING:
    from worker_client.calls.futures import PendingCall


class RetryThread:
    """The retries of one connection. Any thread may call `add` and `close`."""

    def __init__(self) -> None:
        self._calls: list[PendingCall] = []
        self._current: dict[threading.Thread, PendingCall] = {}  # the call that each thread handles
        self._lock = threading.RLock()

    def add(self, call: PendingCall, lost: BrokerLost) -> None:
        """Take over a call whose broker went away; end its future if it may not be run again."""
        try:
            call.lose(lost)
        except BrokerError as error:
            call.end(None, error)
            return
        refused: Overloaded | None = None
        with self._lock:
            if all(call.deadline_ns < other.deadline_ns for other in self._current.values()):
                thread = threading.Thread(target=self._run, name="onesession-reruns", daemon=True)
                self._current[thread] = call
                try:
                    threads.start(thread)
                except Overloaded as error:
                    del self._current[thread]
                    refused = error
            else:
                self._calls.append(call)
        if refused is not None:  # outside the lock: this runs the future's callbacks
            call.end(None, refused)

    def close(self, error: BrokerUnavailable) -> list[threading.Thread]:
        """End the futures of all queued calls with `error`. Returns the threads that may still be busy with a call;
        they
        end when they notice that the connection is closed."""
        with self._lock:
            calls, self._calls = self._calls, []
            threads = list(self._current)
        for call in calls:
            call.end(None, error)
        return threads

    def _run(self) -> None:
        thread = threading.current_thread()
        call: PendingCall | None = self._current[thread]
        while call is not None:
            self._run_again(call)
            call = self._take_earliest(thread)

    def _take_earliest(self, thread: threading.Thread) -> PendingCall | None:
        with self._lock:
            if not self._calls:
                del self._current[thread]
                return None
            call = self._current[thread] = min(self._calls, key=lambda call: call.deadline_ns)
            self._calls.remove(call)
            return call

    def _run_again(self, call: PendingCall) -> None:
        try:
            if not call.cancelled:
                call.send_again(call)
        except BrokerLost as lost:
            self.add(call, lost)
        except BaseException as error:
            call.end(None, error)
