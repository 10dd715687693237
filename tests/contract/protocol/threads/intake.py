"""The intake thread: broker/data_plane/intake.py, with the taking ends of channel.py and ring.py."""

from __future__ import annotations

from itertools import pairwise

from tests.contract.protocol.fields import NOBODY, Broken, Fields
from tests.contract.protocol.threads.completing import Completing
from tests.contract.protocol.threads.program import Outcome, step
from worker_client.wire.states import Step

MISSES = 2


class Intake(Completing):
    START = "loop"
    LOCAL = frozenset({"store_head", "accept", "scanned", "let_go", "finished"})

    def __init__(self, fields: Fields, name: str) -> None:
        super().__init__(fields, name)
        self.channel = fields.local(f"{name}'s channel")
        self.count = fields.local(f"{name} has taken")
        slots = fields.slot_count
        self.batch = [fields.local(f"{name}'s batch {number}") for number in range(slots)]
        self.pool = [fields.local(f"the pool's queue {number}") for number in range(slots)]
        self.back = fields.local(f"{name} takes back")
        self.rung = fields.local(f"{name} was rung")

    def begin(self, state: bytearray) -> None:
        super().begin(state)
        for place in (*self.batch, *self.pool):
            state[place] = NOBODY
        for worker in range(self.config.workers):
            state[self.f.listed[worker]] = 1

    def local_places(self) -> frozenset[str]:
        local = self.LOCAL if self.config.heavy else self.LOCAL | {"route"}
        return local - {"finished"} if self.config.raises else local

    # -- calls ---------------------------------------------------------------------------------------------------

    def calls(self, s: bytes) -> bool:
        f = self.f
        return any(s[place] for place in f.removals) or bool(s[f.disposals])

    @step
    def loop(self, s: bytes) -> Outcome:
        """does what other threads have called for"""
        f, c = self.f, bytearray(s)
        if self.calls(s):
            for worker in range(self.config.workers):
                if s[f.removals[worker]]:
                    c[f.listed[worker]] = c[f.removals[worker]] = 0
            c[f.disposals] = 0
            self.dispose_idle(c)
        c[self.channel] = c[self.rung] = 0
        return self.goto(c, "scan")

    def dispose_idle(self, c: bytearray) -> None:
        f = self.f
        for worker in range(self.config.workers):
            if not c[f.listed[worker]] and self.idle(c, worker):
                c[f.disposed[worker]] = 1

    def idle(self, s: bytes, worker: int) -> bool:
        slots = range(worker * self.config.slots, (worker + 1) * self.config.slots)
        return not any(s[self.f.taken[slot]] for slot in slots)

    # -- scanning ------------------------------------------------------------------------------------------------

    def look_at_tail(self, s: bytes) -> list[tuple[bool, bytearray]]:
        """What a look at the channel's tail may show: (anything new, state). It may be an old tail."""
        f, worker = self.f, s[self.channel]
        found = []
        for tail in {s[f.seen_tail[worker]], s[f.tail[worker]]}:
            c = bytearray(s)
            c[f.seen_tail[worker]] = tail
            found.append((tail != s[f.head[worker]], c))
        return found

    def next_channel(self, c: bytearray, place: str, after: str) -> bytearray:
        c[self.channel] += 1
        if c[self.channel] < self.config.workers:
            return self.goto(c, place)
        c[self.channel] = 0
        return self.goto(c, after)

    @step
    def scan(self, s: bytes) -> Outcome:
        """looks at a tail"""
        if not s[self.f.listed[s[self.channel]]]:
            return self.next_channel(bytearray(s), "scan", "scanned")
        return [
            self.goto(c, "take") if new else self.next_channel(c, "scan", "scanned")
            for new, c in self.look_at_tail(s)
        ]

    @step
    def take(self, s: bytes) -> Outcome:
        """tries to acquire submitted"""
        f, worker = self.f, s[self.channel]
        c = bytearray(s)
        if not s[f.submitted[worker]]:
            return self.miss(c)
        c[f.submitted[worker]] -= 1
        c[f.misses[worker]] = 0
        self.see_tail(c, worker, c[f.submitted_view[worker]])
        return self.goto(c, "read_entry")

    def miss(self, c: bytearray) -> bytearray:
        place = self.f.misses[c[self.channel]]
        c[place] = min(MISSES, c[place] + 1)
        return self.next_channel(c, "scan", "scanned")

    @step
    def read_entry(self, s: bytes) -> Outcome:
        """reads the ring entry"""
        f, worker = self.f, s[self.channel]
        c = bytearray(s)
        slot = s[f.entries[worker][s[f.head[worker]] % self.config.slots]]
        if s[f.taken[slot]]:
            raise Broken(f"the broker closes the channel of an honest worker: slot {slot} came twice")
        f.take(c, slot, Step.TAKE)
        c[self.slot] = slot
        return self.goto(c, "store_head")

    @step
    def store_head(self, s: bytes) -> Outcome:
        """stores the head"""
        c = bytearray(s)
        c[self.f.head[s[self.channel]]] += 1
        return self.goto(c, "accept")

    @step
    def accept(self, s: bytes) -> Outcome:
        """reads the request line and the table"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        f.take(c, slot, Step.READ)
        c[f.taken[slot]] = s[f.sequence[slot]]
        c[self.batch[s[self.count]]] = slot
        c[self.count] += 1
        c[self.slot] = 0
        return self.goto(c, "scan")

    @step
    def scanned(self, s: bytes) -> Outcome:
        """goes on to what it has taken, or idles"""
        c = bytearray(s)
        if not s[self.count]:
            return self.goto(c, "drain")
        c[self.back] = s[self.count]
        return self.goto(c, "route")

    # -- running -------------------------------------------------------------------------------------------------

    @step
    def route(self, s: bytes) -> Outcome:
        """takes the next of a batch, and runs it or gives it to the pool"""
        if not s[self.count]:
            return self.goto(bytearray(s), "take_back")
        here = bytearray(s)
        here[self.slot] = self.pop(here, self.batch)
        here[self.count] -= 1
        if not self.config.heavy:
            return self.goto(here, "run")
        there = bytearray(here)
        there[self.pool[[s[place] for place in self.pool].index(NOBODY)]] = there[self.slot]
        there[self.slot] = 0
        return [self.goto(here, "run"), self.goto(there, "route")]

    @staticmethod
    def pop(c: bytearray, queue: list[int]) -> int:
        first = c[queue[0]]
        for place, following in pairwise(queue):
            c[place] = c[following]
        c[queue[-1]] = NOBODY
        return first

    def go_on(self, c: bytearray) -> bytearray:
        c[self.slot] = 0
        return self.goto(c, "route")

    @step
    def take_back(self, s: bytes) -> Outcome:
        """takes back a post of the doorbell"""
        c = bytearray(s)
        if not s[self.back] or not s[self.f.doorbell]:
            c[self.back] = 0
            return self.goto(c, "loop")
        self.acquire_doorbell(c)
        c[self.back] -= 1
        return self.goto(c, "take_back")

    # -- with nothing to do --------------------------------------------------------------------------------------

    @step
    def drain(self, s: bytes) -> Outcome:
        """drains the doorbell"""
        c = bytearray(s)
        if s[self.f.doorbell]:
            self.acquire_doorbell(c)
            c[self.rung] = 1
            return self.goto(c, "drain")
        return self.goto(c, "loop" if s[self.rung] else "last_look_calls")

    @step
    def last_look_calls(self, s: bytes) -> Outcome:
        """looks for calls once more"""
        return self.goto(bytearray(s), "loop" if self.calls(s) else "last_look")

    @step
    def last_look(self, s: bytes) -> Outcome:
        """looks at a tail once more"""
        f, worker = self.f, s[self.channel]
        if not s[f.listed[worker]]:
            return self.next_channel(bytearray(s), "last_look", "block")
        found = []
        for new, c in self.look_at_tail(s):
            if new and self.promising(s, worker):
                c[self.channel] = 0
                found.append(self.goto(c, "loop"))
            else:
                found.append(self.next_channel(c, "last_look", "block"))
        return found

    def promising(self, s: bytes, worker: int) -> bool:
        return s[self.f.misses[worker]] < MISSES

    @step
    def block(self, s: bytes) -> Outcome:
        """acquires the doorbell, or blocks"""
        if not s[self.f.doorbell]:
            return None
        c = bytearray(s)
        self.acquire_doorbell(c)
        return self.goto(c, "loop")
