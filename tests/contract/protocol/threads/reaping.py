"""How a worker takes abandoned slots back: Channel._reap and _recover as a program."""

from __future__ import annotations

from tests.contract.protocol.fields import Fields
from tests.contract.protocol.threads.program import Outcome, step
from tests.contract.protocol.threads.slots import UNPOSTED, WorkerThread
from worker_client.wire.states import Step


class Reaping(WorkerThread):
    """A calling thread as far as it reaps; `over` and `claim` are where it goes on then."""

    RINGS_AGAIN = True

    def __init__(self, fields: Fields, name: str, worker: int) -> None:
        super().__init__(fields, name, worker)
        self.request = fields.local(f"{name}'s request")
        self.todo = fields.local(f"{name}'s slots to reap")
        self.reaped = fields.local(f"{name} has reaped")
        self.raised = fields.local(f"{name} leaves with an exception")

    def over(self, c: bytearray) -> bytearray:
        """The call has ended, one way or another."""
        c[self.request] += 1
        c[self.raised] = c[self.reaped] = 0
        c[self.slot] = 0
        return self.goto(c, "next")

    def post_doorbell(self, c: bytearray) -> None:
        f = self.f
        c[f.doorbell] += 1
        c[f.doorbell_view[self.worker]] = c[f.tail[self.worker]]
        c[f.unrung[self.worker]] = 0

    def reapable(self, s: bytes) -> bool:
        """Something may come of a reap. (Channel looks in any case; the model needs no looks in vain.)"""
        f = self.f
        if self.RINGS_AGAIN and s[f.abandoned[self.worker]] and s[f.unrung[self.worker]]:
            return True
        for slot in self.slots:
            over = not s[f.busy[slot]] or s[f.done[slot]] == s[f.sequence[slot]]
            if over and s[f.abandoned[self.worker]] & self.bit(slot):
                return True
        return False

    @step
    def reap(self, s: bytes) -> Outcome:
        """takes the next abandoned slot to look at"""
        f, c = self.f, bytearray(s)
        if (
            self.RINGS_AGAIN and s[f.unrung[self.worker]]
        ):  # with the push lock: else another caller is just pushing
            if s[f.lock[self.worker]]:
                return None
            self.post_doorbell(c)
            return self.goto(c, "reap")
        todo = s[self.todo] & s[f.abandoned[self.worker]]
        if not todo:
            c[self.todo] = 0
            return self.over(c) if s[self.raised] else self.goto(c, "claim")
        slot = c[self.slot] = self.lowest(todo)
        c[f.abandoned[self.worker]] &= ~self.bit(slot)
        c[self.todo] = todo & ~self.bit(slot)
        return self.goto(c, "recover_look")

    @step
    def recover_look(self, s: bytes) -> Outcome:
        """looks at DONE of an abandoned slot"""
        f, slot = self.f, s[self.slot]
        seen = not s[f.busy[slot]] or s[f.done[slot]] == s[f.sequence[slot]]
        return self.goto(bytearray(s), "recover_try" if seen else "recovered")

    @step
    def recover_try(self, s: bytes) -> Outcome:
        """tries to acquire a post of an abandoned slot"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        if not (s[f.busy[slot]] or s[f.extra[slot]]):
            return self.goto(c, "recovered")
        if s[f.completed[slot]]:
            self.acquire_completed(c, slot)
            return self.goto(c, "recover_count")
        if self.overdue(s, slot):
            c[f.busy[slot]] = c[f.extra[slot]] = 0
        return self.goto(c, "recovered")

    @step
    def recover_count(self, s: bytes) -> Outcome:
        """counts a post of an abandoned slot: its own first, the broker's last"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        if s[f.extra[slot]]:
            c[f.extra[slot]] -= 1
        else:
            c[f.busy[slot]] = 0
        return self.goto(c, "recover_try")

    def overdue(self, s: bytes, slot: int) -> bool:
        """A post is missing that was missing 100 ms ago. Nobody takes as long between DONE, or counting an extra post,
        and the post; so none is to come: a signal handler has raised just after it was acquired."""
        return s[self.f.life[slot]] not in UNPOSTED and not s[self.f.counted[slot]]

    @step
    def recovered(self, s: bytes) -> Outcome:
        """puts the slot to the free ones, or back"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        if s[f.busy[slot]] or s[f.extra[slot]]:
            c[f.abandoned[self.worker]] |= self.bit(slot)
        else:
            f.take(c, slot, Step.RELEASE)
            c[f.free[self.worker]] |= self.bit(slot)
        if c[self.raised]:
            c[self.todo] = 0
        return self.goto(c, "reap")
