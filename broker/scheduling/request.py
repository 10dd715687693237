"""What a request is for the scheduler: queue, batcher and delay know nothing else of it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Self

INTERACTIVE = 0
BULK = 1


class QueueLimits(Protocol):
    """How much of one model may wait. Hashable by identity: one for each model."""

    @property
    def max_rows(self) -> int: ...

    @property
    def max_bytes(self) -> int: ...


class Delay(Protocol):
    """How long a group's requests wait for company."""

    def hold_until(self, waiting: Iterable[QueuedRequest], rows: int, now_ns: int) -> int:
        """When the batch of these, `rows` together and less than the limit, is to run; a time past means now."""
        ...

    def arrived(self, key: Hashable, now_ns: int) -> None:
        """A request of this caller came."""
        ...

    def ran(self, requests: int, now_ns: int) -> None:
        """A batch of so many requests begins to run."""
        ...

    def answered(self, key: Hashable, now_ns: int) -> None:
        """A request of this caller was answered."""
        ...


class QueuePolicy(Protocol):
    """How the requests of one signature are batched, and how many may wait."""

    batch_limit: int
    """Rows of a batch."""
    divisible: bool
    """Its requests may be joined."""

    @property
    def limits(self) -> QueueLimits: ...

    @property
    def delay(self) -> Delay | None: ...


class Work(Protocol):
    """What is to be run for a request."""

    level: int
    rows: int
    nbytes: int
    group: Hashable

    @property
    def served(self) -> QueuePolicy: ...


class QueuedRequest:
    """A request, or a part of one."""

    __slots__ = ()

    worker: Hashable
    """Whose it is: workers take turns."""
    key: Hashable
    """Who sent it, for a delay that learns when to expect more."""
    taken_ns: int
    deadline_ns: int
    prepared: Work

    @property
    def level(self) -> int:
        """INTERACTIVE or BULK."""
        return self.prepared.level

    @property
    def group(self) -> Hashable:
        """It may join others of its group. None: it never joins another."""
        return self.prepared.group if self.prepared.served.divisible else None

    @property
    def rows(self) -> int:
        return self.prepared.rows

    @property
    def nbytes(self) -> int:
        return self.prepared.nbytes

    # -- the same for all of a group -----------------------------------------------------------------------------

    @property
    def batch_limit(self) -> int:
        return self.prepared.served.batch_limit

    @property
    def limits(self) -> QueueLimits:
        return self.prepared.served.limits

    @property
    def delay(self) -> Delay | None:
        return self.prepared.served.delay

    # -- told by the queue ---------------------------------------------------------------------------------------

    def hold(self, held: bool) -> None:
        """It is held for want of room, or no longer."""

    def following(self) -> Self | None:
        """The part that is queued when this one leaves the queue."""
        return None
