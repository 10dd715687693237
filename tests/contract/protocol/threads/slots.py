"""What the threads of a worker have in common: its slots, their semaphores, and giving them back."""

from __future__ import annotations

from tests.contract.protocol.fields import DROPPED, NUMBER_OF, Broken, Fields
from tests.contract.protocol.threads.program import Thread
from worker_client.wire.states import State, Step

_COMPLETED = NUMBER_OF[State.COMPLETED]
_ABANDONED_COMPLETED = NUMBER_OF[State.ABANDONED_COMPLETED]
_ABANDONABLE = frozenset(
    NUMBER_OF[state] for state in (State.SUBMITTED, State.TAKEN, State.RUNNING, State.DONE, State.COMPLETED)
)
UNPOSTED = frozenset({NUMBER_OF[State.DONE], NUMBER_OF[State.ABANDONED_DONE]})
"""DONE is stored and not posted."""


class WorkerThread(Thread):
    """What the threads of one worker have in common: its slots and its semaphores."""

    worker: int

    def __init__(self, fields: Fields, name: str, worker: int) -> None:
        super().__init__(fields, name, worker)
        self.first = worker * fields.config.slots
        self.slots = range(self.first, self.first + fields.config.slots)
        self.slot = fields.local(f"{name}'s slot")

    def bit(self, slot: int) -> int:
        return 1 << (slot - self.first)

    def lowest(self, mask: int) -> int:
        return self.first + (mask & -mask).bit_length() - 1

    def acquire_completed(self, c: bytearray, slot: int) -> None:
        """Take a post. It hands over whatever was stored before the last post, whoever's post that was."""
        c[self.f.completed[slot]] -= 1
        if c[self.f.life[slot]] in (_COMPLETED, _ABANDONED_COMPLETED):
            self.f.take(c, slot, Step.ACQUIRE)

    def read_answer(self, c: bytearray, slot: int) -> None:
        """The answer must be the one to what was asked; a request dropped in time has none."""
        f = self.f
        f.take(c, slot, Step.FETCH)
        if c[f.signed[slot]] != c[f.sequence[slot]]:
            raise Broken(
                f"slot {slot} holds an answer to use {c[f.signed[slot]]}, not to {c[f.sequence[slot]]}"
            )
        if c[f.output[slot]] == DROPPED and (c[f.passed[slot]] or c[f.given_up[slot]]):
            return
        if c[f.output[slot]] != c[f.input[slot]]:
            raise Broken(f"slot {slot} holds the answer {c[f.output[slot]]} to request {c[f.input[slot]]}")

    def give_back(self, c: bytearray, slot: int) -> bool:
        """Channel.release. True if the slot must be reaped."""
        f = self.f
        if not (c[f.busy[slot]] or c[f.extra[slot]]):
            f.take(c, slot, Step.RELEASE)
            c[f.free[self.worker]] |= self.bit(slot)
            return False
        c[f.armed[slot]] = 0
        c[f.cancelled[slot]] = c[f.sequence[slot]]
        c[f.abandoned[self.worker]] |= self.bit(slot)
        if c[f.life[slot]] in _ABANDONABLE:
            f.take(c, slot, Step.ABANDON)
        return not c[f.busy[slot]]
