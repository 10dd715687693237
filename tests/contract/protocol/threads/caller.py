"""The worker's calling thread as a program: its calls/channel.py, attachment/supply.py and slot.py, ipc/ring.py."""

from __future__ import annotations

from tests.contract.protocol.fields import NUMBER_OF, Fields
from tests.contract.protocol.threads.program import END, Outcome, step
from tests.contract.protocol.threads.reaping import Reaping
from worker_client.wire.states import State, Step

_SHOWN = NUMBER_OF[State.SHOWN]


class Caller(Reaping):
    START = "next"
    PUSH = ("enter", "show", "submit", "ring")
    AFTER_CALLS = frozenset(
        {
            *("write_inputs", "write_header", "enter", "ring"),
            *("poll", "acquire", "watch", "block", "check", "extra_look", "extra_try", "got", "fetch"),
            *("register", "late", "recover_look", "recover_try", "recover_count"),
        }
    )
    """Where a signal handler can raise: CPython runs handlers after calls, never between two stores in a row, nor
    between a store and the call that follows it."""

    LOCAL = frozenset({"next", "poll", "got", "write_header"})

    def __init__(self, fields: Fields, name: str, worker: int, number: int = 0) -> None:
        super().__init__(fields, name, worker)
        self.number = number
        following = dict(zip(self.PUSH, (*self.PUSH[1:], "pushed")))
        self.after_enter, self.after_show = following["enter"], following["show"]
        self.after_submit, self.after_ring = following["submit"], following["ring"]

    def local_places(self) -> frozenset[str]:
        if self.config.callers > 1:
            return self.LOCAL
        return self.LOCAL | ({"pushed"} if self.config.broker_kills else {"pushed", "look_open"})

    def request_id(self, s: bytes) -> int:
        config = self.config
        return 1 + (self.worker * config.callers + self.number) * config.requests + s[self.request]

    def future(self, s: bytes) -> bool:
        """Whether this call is a future's."""
        return self.config.futures and not (self.config.mixed and s[self.request] % 2 == 0)

    # -- claiming ------------------------------------------------------------------------------------------------

    @step
    def next(self, s: bytes) -> Outcome:
        """begins another call, or ends"""
        c = bytearray(s)
        if s[self.request] < self.config.requests:
            return self.goto(c, "claim")
        if not self.config.futures:
            return self.goto(c, END)
        return None if s[self.f.calls[self.worker]] else self.goto(c, END)

    @step
    def claim(self, s: bytes) -> Outcome:
        """claims a slot"""
        f = self.f
        if s[f.closed_for_worker[self.worker]]:
            return self.over(bytearray(s))
        if self.reapable(s) and not s[self.reaped]:
            c = bytearray(s)
            c[self.todo] = s[f.abandoned[self.worker]]
            c[self.reaped] = 1
            return self.goto(c, "reap")
        free = s[f.free[self.worker]]
        c = bytearray(s)
        if not free:
            if s[f.broker_stopped]:
                return self.over(c)  # Overloaded, at the deadline
            c[self.reaped] = 0
            return c if s[self.reaped] else None
        c[self.reaped] = 0
        slot = c[self.slot] = self.lowest(free)
        c[f.free[self.worker]] &= ~self.bit(slot)
        c[f.passed[slot]] = c[f.given_up[slot]] = 0
        f.take(c, slot, Step.CLAIM)
        return self.goto(c, "write_inputs")

    # -- submitting ----------------------------------------------------------------------------------------------

    @step
    def write_inputs(self, s: bytes) -> Outcome:
        """writes its inputs"""
        c = bytearray(s)
        slot = s[self.slot]
        self.f.take(c, slot, Step.WRITE)
        c[self.f.input[slot]] = self.request_id(s)
        c[self.f.notify[slot]] = self.future(s)
        return self.goto(c, "register" if self.future(s) else "write_header")

    @step
    def register(self, s: bytes) -> Outcome:
        """makes its future known, and has its deadline watched"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        c[f.calls[self.worker]] |= self.bit(slot)
        self.renew_call(c, slot)
        if self.config.deadlines:
            c[f.armed[slot]] = 1
        return self.goto(c, "write_header")

    def renew_call(self, c: bytearray, slot: int) -> None:
        """Set by the model: the dispatcher does not take this call for one that it had found before."""

    @step
    def write_header(self, s: bytes) -> Outcome:
        """writes the request line"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        f.take(c, slot, Step.WRITE)
        c[f.sequence[slot]] += 1
        return self.goto(c, "look_open")

    @step
    def look_open(self, s: bytes) -> Outcome:
        """looks whether the channel is open, and takes the push lock"""
        f, c = self.f, bytearray(s)
        if s[f.closed_for_worker[self.worker]]:
            return self.goto(c, "leave")
        if s[f.lock[self.worker]]:
            return None
        c[f.lock[self.worker]] = 1
        return self.goto(c, self.PUSH[0])

    @step
    def enter(self, s: bytes) -> Outcome:
        """stores the ring entry"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        c[f.entries[self.worker][s[f.tail[self.worker]] % self.config.slots]] = slot
        c[f.busy[slot]] = 1
        c[f.unrung[self.worker]] = 1
        f.take(c, slot, Step.ENTER)
        return self.goto(c, self.after_enter)

    @step
    def show(self, s: bytes) -> Outcome:
        """stores the tail"""
        c = bytearray(s)
        c[self.f.tail[self.worker]] += 1
        self.f.take(c, s[self.slot], Step.SHOW)
        return self.goto(c, self.after_show)

    @step
    def submit(self, s: bytes) -> Outcome:
        """posts submitted"""
        c = bytearray(s)
        self.post_submitted(c)
        return self.goto(c, self.after_submit)

    def post_submitted(self, c: bytearray) -> None:
        f = self.f
        c[f.submitted[self.worker]] += 1
        c[f.submitted_view[self.worker]] = c[f.tail[self.worker]]
        for slot in self.slots:
            if c[f.life[slot]] == _SHOWN:
                f.take(c, slot, Step.SUBMIT)

    @step
    def ring(self, s: bytes) -> Outcome:
        """posts the doorbell"""
        c = bytearray(s)
        self.post_doorbell(c)
        return self.goto(c, self.after_ring)

    @step
    def pushed(self, s: bytes) -> Outcome:
        """gives up the push lock"""
        c = bytearray(s)
        c[self.f.lock[self.worker]] = 0
        return self.goto(c, "late" if self.future(s) and self.config.deadlines else "poll")

    @step
    def late(self, s: bytes) -> Outcome:
        """rings the bell if the deadline has passed already"""
        c = bytearray(s)
        if s[self.f.passed[s[self.slot]]]:
            c[self.f.bell[self.worker]] += 1
        return self.over(c)

    # -- waiting -------------------------------------------------------------------------------------------------

    @step
    def poll(self, s: bytes) -> Outcome:
        """polls DONE for a while"""
        c = bytearray(s)
        return self.over(c) if self.future(s) else self.goto(c, "acquire")

    @step
    def acquire(self, s: bytes) -> Outcome:
        """tries to acquire completed"""
        c = bytearray(s)
        if not s[self.f.completed[s[self.slot]]]:
            return self.goto(c, "watch" if self.config.deadlines else "block")
        self.acquire_completed(c, s[self.slot])
        return self.goto(c, "check")

    @step
    def watch(self, s: bytes) -> Outcome:
        """has its deadline watched"""
        c = bytearray(s)
        c[self.f.armed[s[self.slot]]] = 1
        return self.goto(c, "block")

    @step
    def block(self, s: bytes) -> Outcome:
        """acquires completed, or blocks"""
        if not s[self.f.completed[s[self.slot]]]:
            return None
        c = bytearray(s)
        self.acquire_completed(c, s[self.slot])
        return self.goto(c, "check")

    @step
    def check(self, s: bytes) -> Outcome:
        """sees whether there were extra posts"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        if c[f.extra[slot]]:
            c[f.extra[slot]] -= 1
            return self.goto(c, "extra_look")
        if c[f.done[slot]] == c[f.sequence[slot]]:
            c[f.armed[slot]] = 0
            return self.goto(c, "got")
        return self.goto(c, "acquire")

    @step
    def extra_look(self, s: bytes) -> Outcome:
        """looks at DONE"""
        f, slot = self.f, s[self.slot]
        unseen = self.goto(bytearray(s), "extra_woken")
        if s[f.done[slot]] != s[f.sequence[slot]]:
            return unseen
        return [unseen, self.goto(bytearray(s), "extra_try")]

    @step
    def extra_try(self, s: bytes) -> Outcome:
        """tries to acquire completed as well"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        if not s[f.completed[slot]]:
            return self.goto(c, "extra_woken")
        self.acquire_completed(c, slot)
        return self.goto(c, "check")

    @step
    def extra_woken(self, s: bytes) -> Outcome:
        """sees why it was woken"""
        f, c = self.f, bytearray(s)
        if s[f.closed_for_worker[self.worker]] or s[f.passed[s[self.slot]]]:
            return self.goto(c, "leave")
        return self.goto(c, "acquire")

    @step
    def got(self, s: bytes) -> Outcome:
        """notes that the slot is its own again"""
        c = bytearray(s)
        c[self.f.busy[s[self.slot]]] = 0
        return self.goto(c, "fetch")

    @step
    def fetch(self, s: bytes) -> Outcome:
        """reads the answer"""
        c = bytearray(s)
        self.read_answer(c, s[self.slot])
        return self.goto(c, "leave")

    @step
    def leave(self, s: bytes) -> Outcome:
        """releases the slot"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        if self.future(s):
            if s[f.settling[self.worker]]:
                return None
            if not s[f.calls[self.worker]] & self.bit(slot):
                return self.over(c)  # the dispatcher releases it
            c[f.calls[self.worker]] &= ~self.bit(slot)
        if not self.give_back(c, slot):
            return self.over(c)
        c[self.raised] = 1  # whatever comes of the reaping, this call is over
        c[self.todo] = c[f.abandoned[self.worker]]
        return self.goto(c, "reap")

    def interrupted(self, c: bytearray) -> bytearray:
        """A signal handler raises here: the exception goes up through the `finally`s."""
        label = self.at(c)
        c[self.f.lock[self.worker]] &= label not in self.PUSH
        if label.startswith("recover"):
            c[self.raised] = 1
            return self.goto(c, "recovered")
        if self.future(c) and label in {
            "write_inputs",
            "register",
        }:  # it is not known yet, so no dispatcher can have released it
            c[self.f.calls[self.worker]] |= self.bit(c[self.slot])
        return self.goto(c, "leave")
