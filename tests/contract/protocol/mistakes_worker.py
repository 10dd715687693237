"""Mistakes on the worker's side. What stood in the code until the model found it says "as it was"."""

from __future__ import annotations

from tests.contract.protocol.threads.caller import Caller
from tests.contract.protocol.threads.dispatcher import Dispatcher
from tests.contract.protocol.threads.program import Outcome, step
from tests.contract.protocol.threads.watcher import Watcher
from worker_client.wire.states import Step

# -- submitting ----------------------------------------------------------------------------------------------------


class RingsBeforeTail(Caller):
    PUSH = ("enter", "ring", "show", "submit")


class ShowsBeforeEntry(Caller):
    PUSH = ("show", "enter", "submit", "ring")


class PostsBeforeTail(Caller):
    PUSH = ("enter", "submit", "show", "ring")


class WritesAfterPush(Caller):
    LOCAL = Caller.LOCAL - {"write_header"}

    @step
    def write_inputs(self, s: bytes) -> Outcome:
        """writes its inputs"""
        c = bytearray(s)
        self.f.take(c, s[self.slot], Step.WRITE)
        c[self.f.input[s[self.slot]]] = self.request_id(s)
        return self.goto(c, "look_open")

    @step
    def pushed(self, s: bytes) -> Outcome:
        """gives up the push lock"""
        c = bytearray(s)
        c[self.f.lock[self.worker]] = 0
        return self.goto(c, "write_header")

    @step
    def look_open(self, s: bytes) -> Outcome:
        """takes the push lock"""
        written = s[self.f.life[s[self.slot]]] != 1
        return self.goto(bytearray(s), "poll") if written else super().look_open(s)


class PostsTwiceWhenBrokenOff(Caller):
    """As it was: RingProducer.push posted `submitted` again after a push that was broken off."""

    RINGS_AGAIN = False

    @step
    def enter(self, s: bytes) -> Outcome:
        """posts submitted for a push that was broken off, and stores the ring entry"""
        if not s[self.f.unrung[self.worker]]:
            return super().enter(s)
        c = bytearray(s)
        self.post_submitted(c)
        return super().enter(bytes(c))


class NeverRingsAgain(Caller):
    """As it was: a push that was broken off rang the doorbell only with the next push."""

    RINGS_AGAIN = False


class BrokenOffBetweenStores(Caller):
    AFTER_CALLS = Caller.AFTER_CALLS | {"show", "submit"}


# -- waiting -------------------------------------------------------------------------------------------------------


class BelievesDone(Caller):
    @step
    def acquire(self, s: bytes) -> Outcome:
        """sees DONE, and acquires nothing"""
        if s[self.f.done[s[self.slot]]] == s[self.f.sequence[s[self.slot]]]:
            return self.goto(bytearray(s), "got")
        return super().acquire(s)


class BelievesTheSecondPost(Caller):
    """As it was: after an extra post, the next one was taken for the broker's."""

    @step
    def extra_try(self, s: bytes) -> Outcome:
        """tries to acquire completed as well"""
        c = super().extra_try(s)
        assert isinstance(c, bytearray)
        if self.at(c) == "check":
            c[self.f.armed[s[self.slot]]] = 0
            self.goto(c, "got")
        return c


class WatchesOnlyBeforeDone(Caller):
    """As it was: who had seen DONE blocked without a deadline."""

    @step
    def watch(self, s: bytes) -> Outcome:
        """has its deadline watched, unless it has seen DONE"""
        if s[self.f.done[s[self.slot]]] == s[self.f.sequence[s[self.slot]]]:
            return self.goto(bytearray(s), "block")
        return super().watch(s)


class FreesAtOnce(Caller):
    def give_back(self, c: bytearray, slot: int) -> bool:
        self.f.take(c, slot, Step.RELEASE)
        c[self.f.free[self.worker]] |= self.bit(slot)
        return False


class ReapsOnDone(Caller):
    @step
    def recover_try(self, s: bytes) -> Outcome:
        """sees DONE, and acquires nothing"""
        c = bytearray(s)
        c[self.f.busy[s[self.slot]]] = c[self.f.extra[s[self.slot]]] = 0
        return self.goto(c, "recovered")


class CountsTheBrokersFirst(Caller):
    """As it was: the first post of an abandoned slot was taken for the broker's."""

    @step
    def recover_count(self, s: bytes) -> Outcome:
        """counts a post of an abandoned slot: the broker's first"""
        f, slot = self.f, s[self.slot]
        c = bytearray(s)
        if s[f.busy[slot]]:
            c[f.busy[slot]] = 0
        else:
            c[f.extra[slot]] -= 1
        return self.goto(c, "recover_try")

    def overdue(self, s: bytes, slot: int) -> bool:
        return not s[self.f.busy[slot]] or super().overdue(s, slot)


# -- watcher and dispatcher ----------------------------------------------------------------------------------------


class PostsBeforeItCounts(Watcher):
    @step
    def expire(self, s: bytes) -> Outcome:
        """posts completed"""
        c = bytearray(s)
        c[self.f.completed[s[self.slot]]] += 1
        return self.goto(c, "expire_post")

    @step
    def expire_post(self, s: bytes) -> Outcome:
        """counts an extra post"""
        c = bytearray(s)
        c[self.f.extra[s[self.slot]]] += 1
        c[self.slot] = 0
        return self.goto(c, "watch_over")


class ClosesInSilence(Watcher):
    @step
    def close(self, s: bytes) -> Outcome:
        """wakes nobody"""
        return self.goto(bytearray(s), "close_bell")


class NeverRingsLate(Caller):
    """As it was: a future whose deadline passed before it was submitted waited for the broker."""

    @step
    def late(self, s: bytes) -> Outcome:
        """has submitted a future"""
        return self.over(bytearray(s))


class LooksAtUnsubmitted(Dispatcher):
    def submitted(self, s: bytes, slot: int) -> bool:
        return True


class KnowsNoExtraPosts(Dispatcher):
    """As it was: a future's answer was there with any post."""

    def is_extra(self, c: bytearray, slot: int) -> bool:
        return False


class SettlesWithoutLock(Dispatcher):
    """As it was: a `submit` that was broken off gave the slot back while the dispatcher was settling its call."""

    @step
    def settle(self, s: bytes) -> Outcome:
        """takes the next call to look at"""
        c = super().settle(s)
        assert isinstance(c, bytearray)
        c[self.f.settling[self.worker]] = 0
        return c
