"""What a state of the model is: one byte for each word, semaphore, local variable and program counter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker_client.wire.states import TABLE, State, Step

NOBODY: Final = 255
DROPPED: Final = 254  # in place of an answer

STATES: Final = tuple(State)
_NUMBER = {state: number for number, state in enumerate(STATES)}
NUMBER_OF: Final = _NUMBER

NEXT: Final = {
    step: bytes(_NUMBER[TABLE[state, step]] if (state, step) in TABLE else NOBODY for state in STATES)
    for step in Step
}
"""For each step the table's column."""


class Broken(AssertionError):
    """A property does not hold; the message says which."""


@dataclass(frozen=True)
class Config:
    """How large a model is, and what may happen in it."""

    workers: int = 1
    callers: int = 1  # threads of each worker
    slots: int = 2  # of each worker
    requests: int = 2  # of each caller
    futures: bool = False  # callers submit futures, in place of waiting themselves
    mixed: bool = False  # by turns: every other call is a future's
    heavy: bool = False  # each request may be light or heavy
    deadlines: bool = False
    worker_kills: int = 0
    worker_stops: int = 0  # a worker is suspended and never goes on
    broker_kills: int = 0
    stops: int = 0  # the broker is suspended and never goes on
    interruptions: int = 0  # a signal handler raises in a worker's first caller
    cancels: int = 0
    raises: int = 0  # the broker raises after it has handed a slot back


class Fields:
    """Names of the places in a state. Slots are numbered through all workers."""

    def __init__(self, config: Config) -> None:
        self.size = 0
        self.names: list[str] = []
        self.config = config
        workers, slots = config.workers, config.workers * config.slots
        self.slot_count = slots
        # Of the whole machine.
        self.doorbell = self._one("doorbell")
        self.worker_kills = self._one("worker kills left")
        self.worker_stops = self._one("worker stops left")
        self.broker_kills = self._one("broker kills left")
        self.stops = self._one("stops left")
        self.interruptions = self._one("interruptions left")
        self.cancels = self._one("cancels left")
        self.raises = self._one("faults of the broker left")
        self.broker_gone = self._one("the broker is gone")
        self.broker_stopped = self._one("the broker is stopped")
        # Of each worker: shared with the broker.
        self.tail = self._many("tail", workers)
        self.submitted = self._many("posts of submitted", workers)
        self.bell = self._many("posts of the bell", workers)
        self.entries = [self._many(f"entries of {w}", config.slots) for w in range(workers)]
        self.submitted_view = self._many("tail at the last post of submitted", workers)
        self.doorbell_view = self._many("tail at the last post of the doorbell", workers)
        # Of each worker: its own.
        self.dead = self._many("dead", workers)
        self.stopped = self._many("stopped", workers)
        self.closed_for_worker = self._many("channel closed", workers)
        self.free = self._many("free slots", workers)
        self.abandoned = self._many("abandoned slots", workers)
        self.calls = self._many("calls of futures", workers)
        self.settling = self._many("lock on the calls", workers)
        self.lock = self._many("push lock", workers)
        self.unrung = self._many("a push was broken off", workers)
        # Of each channel: the broker's own.
        self.head = self._many("head", workers)
        self.seen_tail = self._many("tail as the broker has seen it", workers)
        self.misses = self._many("misses", workers)
        self.closed = self._many("channel closed for the broker", workers)
        self.listed = self._many("channel in the intake's list", workers)
        self.disposed = self._many("channel disposed of", workers)
        self.removals = self._many("call: remove the channel", workers)
        self.disposals = self._one("call: dispose of what is idle")
        # Of each slot: shared.
        self.input = self._many("inputs", slots)
        self.output = self._many("outputs", slots)
        self.signed = self._many("sequence at the head of the outputs", slots)
        self.sequence = self._many("sequence", slots)
        self.notify = self._many("a future's", slots)
        self.cancelled = self._many("cancelled sequence", slots)
        self.done = self._many("DONE", slots)
        self.stamp = self._many("completion line", slots)
        self.completed = self._many("posts of completed", slots)
        # Of each slot: the worker's, then the broker's, then ours alone.
        self.busy = self._many("busy for the worker", slots)
        self.extra = self._many("extra posts", slots)
        self.counted = self._many("extra post counted and not posted yet", slots)
        self.armed = self._many("deadline armed", slots)
        self.passed = self._many("deadline passed", slots)
        self.given_up = self._many("future cancelled", slots)
        self.taken = self._many("use of it that the broker has in hand", slots)
        self.life = self._many("life", slots)
        self.ran = self._many("runs of request", workers * config.callers * config.requests + 1)

    def _one(self, name: str) -> int:
        return self.local(name)

    def _many(self, name: str, count: int) -> tuple[int, ...]:
        return tuple(self._one(f"{name} {index}") for index in range(count))

    def local(self, name: str) -> int:
        """A place for a thread's local variable or program counter."""
        self.names.append(name)
        self.size += 1
        return self.size - 1

    def take(self, state: bytearray, slot: int, step: Step) -> None:
        """Take a step of the table with a slot. Raises Broken if the table does not have it."""
        place = self.life[slot]
        found = NEXT[step][state[place]]
        if found == NOBODY:
            raise Broken(f"{step.value!r} while slot {slot} is {STATES[state[place]].value!r}")
        state[place] = found

    def describe(self, state: bytes) -> str:
        """What is not zero."""
        shown = []
        for name, value in zip(self.names, state):
            if name.startswith("life"):
                shown.append(f"{name}={STATES[value].value}")
            elif value:
                shown.append(f"{name}={value}")
        return ", ".join(shown)
