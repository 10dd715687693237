"""How the broker runs and completes a request: broker/data_plane/slot.py and runner.py as a program."""

from __future__ import annotations

from abc import ABC, abstractmethod

from tests.contract.protocol.fields import DROPPED, Broken, Fields
from tests.contract.protocol.threads.program import Outcome, Thread, step
from worker_client.wire.states import Step


class BrokerThread(Thread):
    BELONGS_TO_BROKER = True

    def worker_of(self, slot: int) -> int:
        return slot // self.config.slots

    def acquire_doorbell(self, c: bytearray) -> None:
        """It hands over what every worker stored before its last post, so their tails are seen."""
        f = self.f
        c[f.doorbell] -= 1
        for worker in range(self.config.workers):
            self.see_tail(c, worker, c[f.doorbell_view[worker]])

    def see_tail(self, c: bytearray, worker: int, tail: int) -> None:
        place = self.f.seen_tail[worker]
        c[place] = max(c[place], tail)


class Completing(BrokerThread, ABC):
    """A thread that runs requests: from the look whether it is still wanted to the last post."""

    FINISH = ("fill", "complete_line", "let_go", "store_done", "post_completed", "post_bell")

    def __init__(self, fields: Fields, name: str) -> None:
        super().__init__(fields, name)
        self.slot = fields.local(f"{name}'s slot")
        self.use = fields.local(f"{name}'s use of the slot")
        self.answer = fields.local(f"{name}'s answer")
        self._after = dict(zip(self.FINISH, (*self.FINISH[1:], "finished")))

    @step
    def run(self, s: bytes) -> Outcome:
        """drops a request that nobody waits for, or runs it"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        c[self.use] = s[f.taken[slot]]
        unwanted = (
            s[f.closed[self.worker_of(slot)]]
            or s[f.passed[slot]]
            or s[f.cancelled[slot]] == s[f.sequence[slot]]
        )
        if unwanted:
            c[self.answer] = DROPPED
            return self.goto(c, self.FINISH[0])
        f.take(c, slot, Step.START)
        f.take(c, slot, Step.READ)
        request = s[f.input[slot]]
        c[f.ran[request]] += 1
        if c[f.ran[request]] > 1:
            raise Broken(f"request {request} runs twice")
        c[self.answer] = request
        return self.goto(c, self.FINISH[0])

    @step
    def fill(self, s: bytes) -> Outcome:
        """writes the outputs, and whose they are"""
        c = bytearray(s)
        if not s[self.f.disposed[self.worker_of(s[self.slot])]]:
            self.f.take(c, s[self.slot], Step.FILL)
        else:
            raise Broken(f"slot {s[self.slot]} was disposed of before its outputs were written")
        c[self.f.output[s[self.slot]]] = s[self.answer]
        c[self.f.signed[s[self.slot]]] = s[self.use]
        return self.goto(c, self._after["fill"])

    @step
    def complete_line(self, s: bytes) -> Outcome:
        """writes the completion line"""
        c = bytearray(s)
        self.f.take(c, s[self.slot], Step.FILL)
        c[self.f.stamp[s[self.slot]]] = s[self.f.sequence[s[self.slot]]]
        return self.goto(c, self._after["complete_line"])

    @step
    def let_go(self, s: bytes) -> Outcome:
        """notes that the slot is not its own any more"""
        c = bytearray(s)
        c[self.f.taken[s[self.slot]]] = 0
        return self.goto(c, self._after["let_go"])

    @step
    def store_done(self, s: bytes) -> Outcome:
        """stores DONE"""
        c = bytearray(s)
        self.f.take(c, s[self.slot], Step.FINISH)
        c[self.f.done[s[self.slot]]] = s[self.f.sequence[s[self.slot]]]
        return self.goto(c, self._after["store_done"])

    @step
    def post_completed(self, s: bytes) -> Outcome:
        """posts completed"""
        c = bytearray(s)
        self.f.take(c, s[self.slot], Step.COMPLETE)
        c[self.f.completed[s[self.slot]]] += 1
        return self.goto(c, self._after["post_completed"])

    @step
    def post_bell(self, s: bytes) -> Outcome:
        """rings the bell, if it is a future's call"""
        c = bytearray(s)
        if s[self.f.notify[s[self.slot]]]:
            c[self.f.bell[self.worker_of(s[self.slot])]] += 1
        return self.goto(c, self._after["post_bell"])

    @step
    def finished(self, s: bytes) -> Outcome:
        """has finished a request, or raises while it counts it"""
        c = bytearray(s)
        c[self.answer] = c[self.use] = 0
        after = self.go_on(c)
        if not s[self.f.raises]:
            return after
        raised = bytearray(s)
        raised[self.f.raises] -= 1
        return [after, self.goto(raised, "give_up")]

    @step
    def give_up(self, s: bytes) -> Outcome:
        """fails the request if it has not been answered"""
        c = bytearray(s)
        if not self.unanswered(s):
            return self.goto(c, "finished")
        c[self.answer] = DROPPED
        c[self.use] = s[self.f.taken[s[self.slot]]]
        return self.goto(c, self.FINISH[0])

    def unanswered(self, s: bytes) -> bool:
        return s[self.f.taken[s[self.slot]]] == s[self.use]

    @abstractmethod
    def go_on(self, c: bytearray) -> bytearray:
        """To what comes after a finished request."""
