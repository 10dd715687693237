"""What happens when the broker is missing: the errors that tell the cases apart, how often a call is run again, and how
long it waits for the broker to come back.

The code that makes a call catches BrokerLost and asks the call's `Attempts` whether it may be run again:

| the call has lost                                 | run again on the next broker                          |
|---------------------------------------------------|-------------------------------------------------------|
| its version of the model; nothing was run         | always                                                |
| its broker, before its run began                  | as often as that happens, but not with `retries=0`    |
| its broker, while it ran; or its answer           | `retries` times                                       |
| the same, and the signature is stateful           | never: `Attachment` raises no BrokerLost there        |

In any case the call waits for the next broker within its own deadline. A call that must attach first behaves as
follows:

| at the address                       | no broker met yet, or `retries=0` | a broker was met, and is not long gone |
|--------------------------------------|-----------------------------------|----------------------------------------|
| no process listens                   | fails at once                     | tries again until the deadline         |
| hangs up instead of answering        | one more try                      | tries again until the deadline         |
| listens, but does not answer in time | DeadlineExceeded                  | BrokerUnavailable                      |

A broker listens before it has loaded its models, and the parent that restarts one keeps its address open meanwhile. So
a call fails at once only if no broker is being started or restarted. "Not long gone" means that when the call began,
the broker had been missing for less than RETURN_SECONDS. A supervisor has restarted the broker by then; without one, a
worker should not spend the whole timeout of every call on waiting.
"""

from __future__ import annotations

from pathlib import Path

from worker_client.ipc.backoff import Backoff
from worker_client.wire.address import unavailable
from worker_client.wire.documented import shown_as_documented
from worker_client.wire.errors import BrokerUnavailable, DeadlineExceeded, ModelFailed

RETURN_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.001
_LAST_PAUSE_SECONDS = 0.05


@shown_as_documented
class NotListening(BrokerUnavailable):
    """No process listens at the address."""


@shown_as_documented
class NoReply(BrokerUnavailable):
    """A process listens at the address, but did not answer in time."""


@shown_as_documented
class BrokerLost(BrokerUnavailable):
    """The broker was there and went away. `ran`: the broker had the call and may have run it."""

    def __init__(self, message: str, ran: bool = False) -> None:
        super().__init__(message)
        self.ran = ran
        self.verdict: ModelFailed | None = None
        """The error for a call that is not run again, if its run exceeded its limit while others ran beside it."""

    def repeated(self, retries: int) -> str:
        """The error for a call that lost its broker again after `retries` more runs."""
        times = "once more" if retries == 1 else f"{retries} times more"
        return (
            f"{self}; it was run {times} (retries={retries}), with the same end: perhaps the request is what ends the "
            "broker's process, see its log"
        )


@shown_as_documented
class ModelReplaced(BrokerLost):
    """The broker is there, but the version that the call was bound to is not: bind again. Nothing was run."""


@shown_as_documented
class ForeignAnswer(BrokerLost):
    """The slot holds an answer to another request. It is never returned, and its channel is closed."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message}: its channel was closed", ran=True)

    def repeated(self, retries: int) -> str:
        return f"{self}; the call was run again (retries={retries}), with the same end"


class Attempts:
    """How often a call may be run again. It is immutable, so all calls of a handle begin with the same object; a loss
    makes a new object with fewer attempts left, as in urllib3's Retry."""

    __slots__ = ("left", "retries")

    def __init__(self, retries: int, left: int | None = None) -> None:
        self.retries = retries
        self.left = retries if left is None else left

    def __repr__(self) -> str:
        return f"<Attempts: {self.left} of {self.retries} left>"

    def after(self, lost: BrokerLost) -> Attempts:
        """The attempts left after a loss. Raises the error the caller sees if the call may not be run again:
        BrokerUnavailable, or the verdict."""
        if isinstance(lost, ModelReplaced):
            return self
        if not self.retries:
            raise lost.verdict or lost
        if not lost.ran:
            return self
        if not self.left:
            if lost.verdict is not None:
                raise lost.verdict
            raise BrokerUnavailable(lost.repeated(self.retries)) from lost
        return Attempts(self.retries, self.left - 1)


class AttachPolicy:
    """One call's wait for a broker to attach to: decides what follows each try. It does not read a clock.

    `expected`: the right column of the second table above applies.
    """

    __slots__ = ("_backoff", "_deadline_ns", "_expected", "_hangups", "_path")

    def __init__(self, path: Path, deadline_ns: int, expected: bool) -> None:
        self._path = path
        self._deadline_ns = deadline_ns
        self._expected = expected
        self._backoff = Backoff(_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS)
        self._hangups = 0

    def pause_s(self, error: BrokerUnavailable, now_ns: int) -> float:
        """How long to pause before the next try, after a try that failed with `error`. Raises the error of the call if
        there is no next try."""
        left_s = (self._deadline_ns - now_ns) / 1e9
        if not self._expected:
            return self._pause_of_a_stranger(error, left_s)
        if left_s <= 0:
            raise unavailable(
                self._path, "it went away and did not come back within the call's timeout"
            ) from None
        return min(self._backoff.next_s(), left_s)

    def _pause_of_a_stranger(self, error: BrokerUnavailable, left_s: float) -> float:
        if isinstance(error, NoReply):
            raise DeadlineExceeded(
                f"the call's timeout passed before this process was attached: {error}"
            ) from None
        self._hangups += isinstance(error, BrokerLost)
        if not isinstance(error, BrokerLost):
            raise error
        if self._hangups > 1 or left_s <= 0:
            raise BrokerUnavailable(str(error)) from None  # no call was lost, so it is not to be run again
        return 0.0
