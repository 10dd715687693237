"""The deadline keeper: worker_client/attachment/link.py with Channel.expire and close; and time, which it watches."""

from __future__ import annotations

from tests.contract.protocol.threads.program import END, Outcome, Thread, step
from tests.contract.protocol.threads.slots import WorkerThread


class Clock(Thread):
    """Time: any deadline that is watched may pass."""

    ENVIRONMENT = True
    START = "tick"

    @step
    def tick(self, s: bytes) -> Outcome:
        """lets a deadline pass"""
        f = self.f
        found = []
        for slot in range(f.slot_count):
            if s[f.armed[slot]] and not s[f.passed[slot]] and not s[f.dead[slot // self.config.slots]]:
                c = bytearray(s)
                c[f.passed[slot]] = 1
                found.append(c)
        return found or None


class Watcher(WorkerThread):
    """Wakes calls whose deadline has passed; wakes all when the connection has ended."""

    START = "watch_over"

    @step
    def watch_over(self, s: bytes) -> Outcome:
        """looks for a deadline that has passed, and at the connection"""
        f = self.f
        if s[f.broker_gone]:
            c = bytearray(s)
            c[f.closed_for_worker[self.worker]] = 1
            c[self.slot] = self.first
            return self.goto(c, "close")
        found = []
        for slot in self.slots:
            if s[f.armed[slot]] and s[f.passed[slot]]:
                c = bytearray(s)
                c[f.armed[slot]] = 0
                c[self.slot] = slot
                found.append(self.goto(c, "expire"))
        return found or None

    @step
    def expire(self, s: bytes) -> Outcome:
        """rings the bell, or counts an extra post"""
        return self.count(bytearray(s), "expire_post", "watch_over")

    @step
    def expire_post(self, s: bytes) -> Outcome:
        """posts completed, as an extra post"""
        return self.post(bytearray(s), "expire_ring")

    @step
    def expire_ring(self, s: bytes) -> Outcome:
        """rings the bell as well if the slot has become a future's, who may have counted this post already"""
        c = bytearray(s)
        c[self.f.bell[self.worker]] += s[self.f.notify[s[self.slot]]]
        c[self.slot] = 0
        return self.goto(c, "watch_over")

    @step
    def close(self, s: bytes) -> Outcome:
        """rings the bell, or counts an extra post, for a closed channel"""
        return self.count(bytearray(s), "close_post", self.following(s), closing=True)

    @step
    def close_post(self, s: bytes) -> Outcome:
        """posts completed for a closed channel"""
        return self.post(bytearray(s), self.following(s), closing=True)

    @step
    def close_bell(self, s: bytes) -> Outcome:
        """rings the bell for a closed channel"""
        c = bytearray(s)
        c[self.f.bell[self.worker]] += 1
        return self.goto(c, END)

    def following(self, s: bytes) -> str:
        return "close_bell" if s[self.slot] + 1 == self.slots.stop else "close"

    def count(self, c: bytearray, post: str, after: str, closing: bool = False) -> bytearray:
        f, slot = self.f, c[self.slot]
        if not c[f.notify[slot]]:
            c[f.extra[slot]] += 1
            c[f.counted[slot]] = 1
            return self.goto(c, post)
        c[f.bell[self.worker]] += 1
        c[self.slot] = slot + 1 if closing else 0
        return self.goto(c, after)

    def post(self, c: bytearray, after: str, closing: bool = False) -> bytearray:
        slot = c[self.slot]
        c[self.f.completed[slot]] += 1
        c[self.f.counted[slot]] = 0
        if closing:
            c[self.slot] = slot + 1
        return self.goto(c, after)
