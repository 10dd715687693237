"""The submission ring: slot numbers from one worker to the broker, without a lock between the processes.

Only the worker writes the tail and the entries, and only the broker writes the head, so a process that is killed at any
instruction holds nothing. The hand-over of an entry, and of the slot it names, is the *submitted* semaphore:

    worker   write slot; entry; tail; post submitted  -- SYNC submitted -->  acquire submitted; read entry; read slot
                                      post doorbell   -- wakes only    -->   acquire doorbell; check every ring

The tail that the broker reads is only a hint where to try; it does not prove that an entry is there.
"""

from __future__ import annotations

from typing import Protocol

from worker_client.ipc.semaphore import Busy, Semaphore
from worker_client.wire.layout import ENTRIES_WORD, HEAD_WORD, LEAVING, RING_ENTRIES, TAIL_WORD

_MASK = RING_ENTRIES - 1
EMPTY = -1

MISSES = 10_000
"""After so many checks (milliseconds), a tail without a post comes from a worker that was stopped between the two, or
that lies."""


class Submittable(Protocol):
    """A slot, as far as the ring needs it."""

    index: int
    busy: bool


class _Leaving:
    index = LEAVING
    busy = False


class RingProducer:
    """The worker's end. One thread at a time uses it: the caller holds the channel's lock."""

    __slots__ = ("_doorbell", "_submitted", "_tail", "_unrung", "_words")

    def __init__(self, words: memoryview, submitted: Semaphore, doorbell: Semaphore) -> None:
        self._words = words
        self._submitted = submitted
        self._doorbell = doorbell
        self._tail = words[TAIL_WORD]
        self._unrung = False  # a signal handler raised inside the last push, before it rang

    def push(self, slot: Submittable) -> None:
        """Hand a slot to the broker. The ring is never full, because it has at least as many entries as there are
        slots.

        CPython runs signal handlers only after calls, so a handler that raises finds the slot busy, in the ring and
        posted, or none of these. There must never be a post without an entry: it would hand over an entry before it is
        written.
        """
        self._unrung = True
        words = self._words
        tail = self._tail
        words[ENTRIES_WORD + (tail & _MASK)] = slot.index
        slot.busy = True
        self._tail = words[TAIL_WORD] = tail + 1
        self._submitted.release()  # SYNC submitted
        self._doorbell.release()
        self._unrung = False

    def leave(self) -> None:
        """Ask the broker to give up the channel."""
        self.push(_Leaving())

    def is_taken(self, slot: Submittable) -> bool:
        """Whether the broker, which is dead by now, had taken the last push of this slot."""
        words = self._words
        waiting = range(words[HEAD_WORD], self._tail)
        return all(words[ENTRIES_WORD + (place & _MASK)] != slot.index for place in waiting)

    def ring_again(self) -> None:
        """Ring for a push that was interrupted before it rang: no call waits for its answer, but its slot must come
        back."""
        if self._unrung:
            self._doorbell.release()
            self._unrung = False


class RingConsumer:
    """The broker's end, used only by the intake thread. It trusts nothing that it reads: the caller checks the slot
    number."""

    __slots__ = ("_submitted", "_words", "head", "misses")

    def __init__(self, words: memoryview, submitted: Semaphore) -> None:
        self._words = words
        self._submitted = submitted
        self.head = 0
        self.misses = 0  # checks in a row that found a tail without its post

    def take(self) -> int:
        """The next submitted slot number, or EMPTY."""
        words = self._words
        head = self.head
        if words[TAIL_WORD] == head:
            return EMPTY
        try:
            self._submitted.acquire(0)  # SYNC submitted
        except Busy:
            self.misses += 1
            return EMPTY  # the tail is visible before its post; the doorbell comes after both
        self.misses = 0
        slot: int = words[ENTRIES_WORD + (head & _MASK)]
        self.head = words[HEAD_WORD] = head + 1
        return slot

    @property
    def promising(self) -> bool:
        """Whether another check is worthwhile: the tail announces an entry, and its post has not been missing for
        long."""
        return bool(self._words[TAIL_WORD] != self.head and self.misses < MISSES)
