"""The event loops that wait on one channel: usually one, several where async code runs in the threads of a server.

one      the channel's event -> that loop                                    (no thread is in between)
several  the channel's event -> the watcher thread -> each loop for which there is something

The event says only that there is something to check, and reading it unsets it for the others. So the reader notifies
all loops, whether it is the watcher or the first loop, which goes on listening itself. A loop that blocks or has ended
delays no other loop, because the watcher listens for all of them and never waits for one. asyncio does not report that
a loop was closed, so while a loop waits for a slot, the watcher checks from time to time whether a closed loop has left
slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from worker_client.attachment.expiry import Sleeper, expire
from worker_client.interpreter.threads import Mutex
from worker_client.wire.layout import NO_DEADLINE

if TYPE_CHECKING:
    import asyncio  # loads much that a worker without async code never needs

CHECK_NS = 50_000_000


class Listener(Sleeper, Protocol):
    """One loop's calls on the channel. Its deadline is that of queued calls; the deadlines of submitted calls are in
    their slots."""

    loop: asyncio.AbstractEventLoop

    @property
    def woken(self) -> bool:
        """Whether the loop has been woken and has not checked yet."""

    def has_work(self, now_ns: int) -> bool:
        """Whether the loop should check its calls. Any thread may call."""

    def wake(self) -> None:
        """Have the loop check its calls. Any thread may call."""

    def oldest_claim(self) -> int | None:
        """The number of the claim that has waited longest for a slot. Any thread may call."""

    def abandon(self) -> None:
        """Release the slots of calls that no task awaits any more, when the loop is closed. Any thread may call."""


class Listeners:
    """The loops that listen to one channel. Any thread may call."""

    def __init__(self) -> None:
        self._all: tuple[Listener, ...] = ()  # replaced, never changed
        # A call in a signal handler may interrupt the thread that holds it, and notify the loops that the channel is
        # lost.
        self._lock = Mutex()
        self._check_ns = NO_DEADLINE
        self.several = False
        """Whether there has been a second loop: from then on the watcher listens."""

    def join(self, listener: Listener) -> bool:
        """Add a loop. True if it is the first one, and has to listen to the event itself."""
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
        """Wake the loops that have something to check."""
        for listener in self._living():
            if listener is not besides and listener.has_work(now_ns):
                listener.wake()

    def notify_waiting(self) -> None:
        """Wake the loops that wait for a slot."""
        for listener in self._living():
            if listener.oldest_claim() is not None:
                listener.wake()

    def notify_all(self) -> None:
        for listener in self._living():
            listener.wake()

    def check_soon(self, now_ns: int) -> int:
        """Have `expire` wake all loops soon. Returns the latest time at which it does."""
        self._check_ns = soon = min(self._check_ns, now_ns + CHECK_NS)
        return soon

    def expire(self, now_ns: int) -> int:
        """Wake the loops whose deadline has passed. Returns the earliest deadline of the others."""
        if self._check_ns <= now_ns:
            self._check_ns = NO_DEADLINE
            self.notify_all()
        return min(self._check_ns, expire(self._all, now_ns, lambda listener: listener.wake()))

    def whose_turn(self, listener: Listener) -> Listener | None:
        """The loop that has waited longest for a slot, if longer than `listener`: it must be woken for the next
        slot."""
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
