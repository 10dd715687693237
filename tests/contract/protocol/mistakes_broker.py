"""Mistakes on the broker's side."""

from __future__ import annotations

from tests.contract.protocol.threads.intake import Intake
from tests.contract.protocol.threads.pool import Control, Runner
from tests.contract.protocol.threads.program import Outcome, step

# -- intake --------------------------------------------------------------------------------------------------------


class NeedsNoAcquire(Intake):
    def miss(self, c: bytearray) -> bytearray:
        return self.goto(c, "read_entry")


class DrainsAndBlocks(Intake):
    """Looks, throws the doorbell's posts away, and blocks."""

    @step
    def scanned(self, s: bytes) -> Outcome:
        """goes on to what it has taken, or looks for calls once more"""
        c = super().scanned(s)
        assert isinstance(c, bytearray)
        return self.goto(c, "last_look_calls") if self.at(c) == "drain" else c

    def next_channel(self, c: bytearray, place: str, after: str) -> bytearray:
        return super().next_channel(c, place, "drain" if after == "block" else after)

    @step
    def drain(self, s: bytes) -> Outcome:
        """throws away the posts of the doorbell"""
        c = bytearray(s)
        if not s[self.f.doorbell]:
            return self.goto(c, "block")
        self.acquire_doorbell(c)
        return c


class TakesBackAndBlocks(Intake):
    @step
    def take_back(self, s: bytes) -> Outcome:
        """takes back a post of the doorbell"""
        c = super().take_back(s)
        assert isinstance(c, bytearray)
        return self.goto(c, "block") if self.at(c) == "loop" else c


class HopesForEver(Intake):
    def promising(self, s: bytes, worker: int) -> bool:
        return True


class DisposesOfBusy(Intake):
    def idle(self, s: bytes, worker: int) -> bool:
        return True


# -- completing ----------------------------------------------------------------------------------------------------


class DoneBeforeOutputs(Intake):
    FINISH = ("store_done", "fill", "complete_line", "let_go", "post_completed", "post_bell")


class PostsBeforeDone(Intake):
    FINISH = ("fill", "complete_line", "let_go", "post_completed", "store_done", "post_bell")


class PostsBeforeOutputs(Intake):
    FINISH = ("let_go", "store_done", "post_completed", "fill", "complete_line", "post_bell")


class RingsBeforeItPosts(Intake):
    FINISH = ("fill", "complete_line", "let_go", "store_done", "post_bell", "post_completed")


class LetsGoLast(Runner):
    FINISH = ("fill", "complete_line", "store_done", "post_completed", "post_bell", "let_go")


class GivesUpWhatIsBusy(Runner):
    """Takes a slot that is busy for one that it has not answered."""

    def unanswered(self, s: bytes) -> bool:
        return s[self.f.taken[s[self.slot]]] != 0


class ForgetsOrphans(Runner):
    def go_on(self, c: bytearray) -> bytearray:
        c[self.slot] = 0
        return self.goto(c, "wait")


class CallsInSilence(Control):
    @step
    def call_ring(self, s: bytes) -> Outcome:
        """does not post the doorbell for its call"""
        return self.goto(bytearray(s), "select")
