"""The broker's other threads: a heavy model's runner (broker/data_plane/runner_pool.py) and the control thread."""

from __future__ import annotations

from tests.contract.protocol.fields import NOBODY, Fields
from tests.contract.protocol.threads.completing import BrokerThread, Completing
from tests.contract.protocol.threads.intake import Intake
from tests.contract.protocol.threads.program import Outcome, step


class Runner(Completing):
    """A thread of a heavy model's pool."""

    START = "wait"

    def __init__(self, fields: Fields, name: str, intake: Intake) -> None:
        super().__init__(fields, name)
        self.pool = intake.pool

    @step
    def wait(self, s: bytes) -> Outcome:
        """takes a request from the pool's queue, or blocks"""
        if s[self.pool[0]] == NOBODY:
            return None
        c = bytearray(s)
        c[self.slot] = Intake.pop(c, self.pool)
        return self.goto(c, "run")

    def go_on(self, c: bytearray) -> bytearray:
        closed = c[self.f.closed[self.worker_of(c[self.slot])]]
        c[self.slot] = 0
        return self.goto(c, "call" if closed else "wait")

    @step
    def call(self, s: bytes) -> Outcome:
        """calls for the intake to dispose of a channel"""
        c = bytearray(s)
        c[self.f.disposals] = 1
        return self.goto(c, "call_ring")

    @step
    def call_ring(self, s: bytes) -> Outcome:
        """posts the doorbell for its call"""
        c = bytearray(s)
        c[self.f.doorbell] += 1
        return self.goto(c, "wait")


class Control(BrokerThread):
    """The control thread: the end of a connection takes its channel out of the intake."""

    START = "select"

    @step
    def select(self, s: bytes) -> Outcome:
        """finds that a connection has ended"""
        f = self.f
        for worker in range(self.config.workers):
            if s[f.dead[worker]] and not s[f.closed[worker]]:
                c = bytearray(s)
                c[f.closed[worker]] = 1
                return self.goto(c, "call")
        return None

    @step
    def call(self, s: bytes) -> Outcome:
        """calls for the intake to remove a channel"""
        f, c = self.f, bytearray(s)
        for worker in range(self.config.workers):
            if s[f.closed[worker]] and s[f.listed[worker]]:
                c[f.removals[worker]] = 1
        return self.goto(c, "call_ring")

    @step
    def call_ring(self, s: bytes) -> Outcome:
        """posts the doorbell for its call"""
        c = bytearray(s)
        c[self.f.doorbell] += 1
        return self.goto(c, "select")
