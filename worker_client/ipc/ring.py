"""The submission ring: slot numbers from one worker to the broker, without a lock between the processes.

Only the worker writes the tail and the entries, only the broker the head, so a process that is killed at any
instruction holds nothing. The hand-over of an entry, and of the slot it names, is the *submitted* semaphore:

    worker   write slot; entry; tail; post submitted  -- SYNC submitted -->  acquire submitted; read entry; read slot
                                      post doorbell   -- wakes only    -->   acquire doorbell; look at every ring

The tail that the broker reads is a hint where to try, never a proof that an entry is there.
"""

from __future__ import annotations

from typing import Protocol

from worker_client.ipc.semaphore import Busy, Semaphore
from worker_client.wire.layout import ENTRIES_WORD, HEAD_WORD, LEAVING, RING_ENTRIES, TAIL_WORD

_MASK = RING_ENTRIES - 1
EMPTY = -1

MISSES = 10_000
"""After so many looks, milliseconds, a tail without a post is a worker's that was stopped between the two, or lies."""


class Submittable(Protocol):
    """What a slot is to the ring."""

    index: int
    busy: bool


class _Leaving:
    index = LEAVING
    busy = False


class RingProducer:
    """The worker's end. One thread at a time: the caller holds the channel's lock."""

    __slots__ = ("_doorbell", "_submitted", "_tail", "_unrung", "_words")

    def __init__(self, words: memoryview, submitted: Semaphore, doorbell: Semaphore) -> None:
        self._words = words
        self._submitted = submitted
        self._doorbell = doorbell
        self._tail = words[TAIL_WORD]
        self._unrung = False  # a signal handler raised inside the last push, before it rang

    def push(self, slot: Submittable) -> None:
        """Hand a slot to the broker. Never full: there are more entries than slots.

        CPython runs signal handlers after calls only, so one that raises finds the slot busy, in the ring and posted,
        or none of it. A post without an entry there must never be: it would hand over an entry before it is written.
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
        """Whether the broker, which is dead by now, has taken what was last pushed of this slot."""
        words = self._words
        waiting = range(words[HEAD_WORD], self._tail)
        return all(words[ENTRIES_WORD + (place & _MASK)] != slot.index for place in waiting)

    def ring_again(self) -> None:
        """Ring for a push that was broken off before it did: nobody waits for its answer, but for its slot."""
        if self._unrung:
            self._doorbell.release()
            self._unrung = False


class RingConsumer:
    """The broker's end. Intake thread only. Trusts nothing it reads: the caller checks the slot number."""

    __slots__ = ("_submitted", "_words", "head", "misses")

    def __init__(self, words: memoryview, submitted: Semaphore) -> None:
        self._words = words
        self._submitted = submitted
        self.head = 0
        self.misses = 0  # looks in a row that found a tail without its post

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
            return EMPTY  # the tail shows before its post; the doorbell follows both
        self.misses = 0
        slot: int = words[ENTRIES_WORD + (head & _MASK)]
        self.head = words[HEAD_WORD] = head + 1
        return slot

    @property
    def promising(self) -> bool:
        """Worth another look: the tail tells of an entry, and has not told it in vain for long."""
        return bool(self._words[TAIL_WORD] != self.head and self.misses < MISSES)
