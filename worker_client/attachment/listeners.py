"""The event loops that wait on one channel: usually one, several where async code runs in the threads of a server.

one      the channel's event -> that loop                                    (no thread is in between)
several  the channel's event -> the watcher thread -> each loop for which there is something

The event says only that there is something to look at, and whoever reads it has unset it for the others. So who does
tells all of them, the first loop, which goes on listening itself, as well as the watcher. A loop that blocks or has
ended delays no other: what listens for them all is the watcher, which never waits for one. Nobody is told that a loop
was closed, so while one waits for a slot, the watcher looks now and then whether another has left some.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from worker_client.attachment.expiry import Sleeper, expire
from worker_client.system.threads import Mutex
from worker_client.wire.layout import NO_DEADLINE

CHECK_NS = 50_000_000


class Listener(Sleeper, Protocol):
    """One loop's calls on the channel. Its deadline is not that of what the broker has, which stands in the slots."""

    loop: asyncio.AbstractEventLoop

    @property
    def woken(self) -> bool:
        """It is about to look."""

    def has_work(self, now_ns: int) -> bool:
        """Any thread: whether it should look."""

    def wake(self) -> None:
        """Any thread: have it look, in its loop."""

    def oldest_claim(self) -> int | None:
        """Any thread: the number of the claim that has waited longest for a slot."""

    def abandon(self) -> None:
        """Any thread, when the loop is closed: give back the slots of calls that nobody awaits any more."""


class Listeners:
    """Any thread may call."""

    def __init__(self) -> None:
        self._all: tuple[Listener, ...] = ()  # replaced, never changed
        # A call in a signal handler may interrupt whoever holds it, and tell the loops that the channel is lost.
        self._lock = Mutex()
        self._check_ns = NO_DEADLINE
        self.several = False
        """The watcher listens, from the second loop on."""

    def join(self, listener: Listener) -> bool:
        """Whether it is the first, and has to listen itself."""
        with self._lock:
            gone = [other for other in self._all if other.loop.is_closed()]
            others = [other for other in self._all if other not in gone]
            self.several = self.several or bool(others)
            self._all = (*others, listener)
        for other in gone:
            other.abandon()
        return not self.several

    def leave(self, listener: Listener) -> None:
        with self._lock:
            self._all = tuple(other for other in self._all if other is not listener)

    def notify(self, now_ns: int, besides: Listener | None = None) -> None:
        """Wake those for whom there is something."""
        for listener in self._living():
            if listener is not besides and listener.has_work(now_ns):
                listener.wake()

    def notify_waiting(self) -> None:
        """Wake those that wait for a slot."""
        for listener in self._living():
            if listener.oldest_claim() is not None:
                listener.wake()

    def notify_all(self) -> None:
        for listener in self._living():
            listener.wake()

    def check_soon(self, now_ns: int) -> int:
        """Have `expire` wake all of them, at the moment that is returned at the latest."""
        self._check_ns = soon = min(self._check_ns, now_ns + CHECK_NS)
        return soon

    def expire(self, now_ns: int) -> int:
        """Wake those whose deadline has passed; the earliest deadline of the others."""
        if self._check_ns <= now_ns:
            self._check_ns = NO_DEADLINE
            self.notify_all()
        return min(self._check_ns, expire(self._all, now_ns, lambda listener: listener.wake()))

    def whose_turn(self, listener: Listener) -> Listener | None:
        """Who has waited for a slot for longer than `listener`, and is to be woken for the next one; if anybody."""
        if len(self._all) < 2:
            return None
        turn, first = None, listener.oldest_claim()
        for other in self._living():
            claim = None if other is listener or other.woken else other.oldest_claim()
            if claim is not None and (first is None or claim < first):
                turn, first = other, claim
        return turn

    def _living(self) -> tuple[Listener, ...]:
        everyone = self._all
        for listener in everyone:
            if listener.loop.is_closed():
                self.leave(listener)
                listener.abandon()
        return self._all
