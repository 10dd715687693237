"""The loops of one thread of a worker in a window, closed and open. Time and number of calls are bounded in both."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from broker.bench.load.arrivals import MOST_CALLS
from broker.bench.load.samples import CallSamples
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import BrokerError

LOOKED_AT = 13
"""The stages of every 13th call are recorded: with a prime number, each input has its turn."""
_PR_SET_TIMERSLACK = 29

Stamps = tuple[int, int, int, int, int, int, int]
"""submitted, taken, started, finished, completed, woken (monotonic nanoseconds), rows of the batch."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The calls of one thread. `look` does the same as `call`, and leaves the stamps of its answer in `stamps`."""

    call: Callable[[Any], Any]
    look: Callable[[Any], Any] | None = None
    stamps: Callable[[], Stamps] | None = None


class WindowRecord:
    """Records the answers between `start_ns` and `end_ns`. `answers` keeps the last answer to each input."""

    def __init__(self, start_ns: int, end_ns: int, inputs: int = 0) -> None:
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.samples = CallSamples()
        self.answers: list[Any] = [None] * inputs
        self._first = self._last = start_ns

    def answered(self, began_ns: int, ended_ns: int) -> None:
        """A call of the closed loop, which counts if it ends in the window."""
        self._count(ended_ns)
        if self.start_ns < ended_ns <= self.end_ns:
            self.samples.taken_ns.append(ended_ns - began_ns)

    def answered_as_planned(self, planned_ns: int, ended_ns: int) -> None:
        """A call of the open loop, which counts if it was to begin in the window, whenever it ends."""
        self._count(ended_ns)
        if planned_ns >= self.start_ns:
            self.samples.taken_ns.append(ended_ns - planned_ns)

    def failed(self, error: BrokerError) -> None:
        if monotonic_ns() > self.start_ns:
            self.samples.failures[type(error).__name__] += 1

    def left_out(self, planned_ns: int) -> None:
        """A call of the open loop whose turn did not come before the end."""
        if planned_ns >= self.start_ns:
            self.samples.unsent += 1
            self.samples.taken_ns.append(self.end_ns - planned_ns)

    def looked_at(self, planned_ns: int, began_ns: int, ended_ns: int, stamps: Stamps) -> None:
        if ended_ns > self.start_ns:
            submitted, taken, started, finished, completed, woken, rows = stamps
            moments = (planned_ns, began_ns, submitted, taken, started, finished, completed, woken, ended_ns)
            self.samples.stages_ns.extend(after - before for before, after in pairwise(moments))
            self.samples.stages_ns.append(rows)

    def done(self) -> CallSamples:
        """The rate is that between the last answer before the window and the last in it: no call counts in part."""
        if self.samples.answered:
            self.samples.per_s = self.samples.answered * 1e9 / (self._last - self._first)
        return self.samples

    def _count(self, ended_ns: int) -> None:
        if ended_ns <= self.start_ns:
            self._first = ended_ns
        elif ended_ns <= self.end_ns:
            self._last = ended_ns
            self.samples.answered += 1


def closed(caller: Caller, inputs: Sequence[Any], record: WindowRecord) -> None:
    """Call again as soon as there is an answer, until the window ends."""
    clock, call, look = monotonic_ns, caller.call, caller.look or caller.call
    stamps, many, end = caller.stamps, len(inputs), record.end_ns
    for number in range(MOST_CALLS):
        index = number % many
        looks = number % LOOKED_AT == 0
        began = clock()
        if began >= end:
            break
        try:
            answer = (look if looks else call)(inputs[index])
        except BrokerError as error:
            record.failed(error)
            continue
        ended = clock()
        record.answered(began, ended)
        record.answers[index] = answer
        if looks and stamps is not None:
            record.looked_at(began, began, ended, stamps())


class Moments:
    """The planned moments of a worker, which its threads take turns to serve."""

    def __init__(self, moments: Sequence[int], begin_ns: int) -> None:
        self._lock = threading.Lock()
        self._left = iter(enumerate(int(moment) + begin_ns for moment in moments))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        while True:
            with self._lock:
                found = next(self._left, None)
            if found is None:
                return
            yield found


def planned(caller: Caller, inputs: Sequence[Any], record: WindowRecord, moments: Moments) -> None:
    """Call at the planned moments, or at once where they have passed; requests without time count as unsent."""
    clock, call, look = monotonic_ns, caller.call, caller.look or caller.call
    stamps, many, end = caller.stamps, len(inputs), record.end_ns
    wake_exactly()
    for number, moment in moments:
        index = number % many
        looks = number % LOOKED_AT == 0
        now = clock()
        if moment < record.start_ns <= now:
            continue  # of the warm-up, whose backlog the window does not inherit
        if now >= end:
            record.left_out(moment)
            continue
        if moment > now:
            time.sleep((moment - now) / 1e9)
        began = clock()
        try:
            answer = (look if looks else call)(inputs[index])
        except BrokerError as error:
            record.failed(error)
            continue
        ended = clock()
        record.answered_as_planned(moment, ended)
        record.answers[index] = answer
        if looks and stamps is not None and moment >= record.start_ns:
            record.looked_at(moment, began, ended, stamps())


def wake_exactly() -> None:
    """Have the kernel wake this thread at the moment it asked for, where it would else add up to 50 us (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
