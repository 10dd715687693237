"""The futures' thread: worker_client/calls/futures.py as a program."""

from __future__ import annotations

from tests.contract.protocol.fields import Fields
from tests.contract.protocol.threads.program import END, Outcome, step
from tests.contract.protocol.threads.slots import UNPOSTED, WorkerThread


class Dispatcher(WorkerThread):
    """Completes the futures of a worker."""

    START = "wait"

    def __init__(self, fields: Fields, name: str, worker: int) -> None:
        super().__init__(fields, name, worker)
        self.found = fields.local(f"{name}'s calls")
        self.error = fields.local(f"{name} has an error")

    @step
    def wait(self, s: bytes) -> Outcome:
        """acquires the bell, or blocks"""
        f, c = self.f, bytearray(s)
        if not s[f.bell[self.worker]]:
            return None
        c[f.bell[self.worker]] -= 1
        c[self.found] = s[f.calls[self.worker]]
        return self.goto(c, "settle")

    @step
    def settle(self, s: bytes) -> Outcome:
        """takes the next call to look at"""
        f, c = self.f, bytearray(s)
        found = s[self.found] & s[f.calls[self.worker]]
        if not found:
            c[self.found] = c[self.slot] = 0
            return self.goto(c, "last_look" if s[f.closed_for_worker[self.worker]] else "wait")
        c[self.slot] = self.lowest(found)
        c[self.found] = found & ~self.bit(c[self.slot])
        if not self.submitted(s, c[self.slot]):
            return self.goto(c, "settle")
        c[f.settling[self.worker]] = 1
        return self.goto(c, "look")

    def submitted(self, s: bytes, slot: int) -> bool:
        """Else DONE tells of the slot's last use."""
        return bool(s[self.f.busy[slot]])

    @step
    def look(self, s: bytes) -> Outcome:
        """looks at DONE of a call"""
        f, slot = self.f, s[self.slot]
        unseen = self.goto(bytearray(s), "why")
        if s[f.done[slot]] != s[f.sequence[slot]]:
            return unseen
        seen = self.goto(bytearray(s), "try_")
        # As long as nothing was acquired that follows DONE, it may be there and not be seen.
        return [unseen, seen] if s[f.life[slot]] in UNPOSTED else seen

    @step
    def try_(self, s: bytes) -> Outcome:
        """tries to acquire completed of a call"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        if not s[f.completed[slot]]:
            return self.goto(c, "why")
        self.acquire_completed(c, slot)
        if self.is_extra(c, slot):
            return self.goto(c, "look")
        c[f.busy[slot]] = c[f.armed[slot]] = 0
        return self.forget(c, error=0)

    def is_extra(self, c: bytearray, slot: int) -> bool:
        """Whether the post may be the deadline keeper's, late from a call that waited for itself in this slot."""
        if not c[self.f.extra[slot]]:
            return False
        c[self.f.extra[slot]] -= 1
        return True

    @step
    def why(self, s: bytes) -> Outcome:
        """looks whether a call is over without an answer"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        if s[f.passed[slot]] or s[f.given_up[slot]]:
            return self.forget(c, error=1)
        c[f.settling[self.worker]] = 0
        return self.goto(c, "settle")

    def forget(self, c: bytearray, error: int) -> bytearray:
        """The call is over: from here on it is not among the calls."""
        f = self.f
        c[f.calls[self.worker]] &= ~self.bit(c[self.slot])
        c[f.settling[self.worker]] = 0
        c[self.error] = error
        return self.goto(c, "finish")

    @step
    def finish(self, s: bytes) -> Outcome:
        """ends a call: its answer, its slot, its future"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        if not s[self.error] and not s[f.given_up[slot]]:
            self.read_answer(c, slot)
        self.give_back(c, slot)
        c[self.error] = 0
        return self.goto(c, "settle")

    @step
    def last_look(self, s: bytes) -> Outcome:
        """looks once more at all calls of a closed channel"""
        c = bytearray(s)
        c[self.found] = s[self.f.calls[self.worker]]
        return self.goto(c, "gone" if not c[self.found] else "last_settle")

    @step
    def last_settle(self, s: bytes) -> Outcome:
        """ends a call of a closed channel"""
        f, c = self.f, bytearray(s)
        found = s[self.found] & s[f.calls[self.worker]]
        if not found:
            c[self.slot] = 0
            return self.goto(c, "gone")
        slot = c[self.slot] = self.lowest(found)
        c[self.found] = found & ~self.bit(slot)
        if self.submitted(s, slot) and s[f.done[slot]] == s[f.sequence[slot]] and s[f.completed[slot]]:
            self.acquire_completed(c, slot)
            c[f.busy[slot]] = 0
        c[f.calls[self.worker]] &= ~self.bit(slot)
        if s[f.busy[slot]]:
            self.give_back(c, slot)
        return self.goto(c, "last_settle")

    @step
    def gone(self, s: bytes) -> Outcome:
        """is over"""
        return self.goto(bytearray(s), END)
