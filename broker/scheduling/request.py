"""The scheduler's view of a request: queue, batcher and delay know nothing else of it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Self

INTERACTIVE = 0
BULK = 1


class QueueLimits(Protocol):
    """How many rows and bytes of one model may wait. Hashable by identity: one for each model."""

    @property
    def max_rows(self) -> int: ...

    @property
    def max_bytes(self) -> int: ...


class Delay(Protocol):
    """How long a group's requests wait for more requests."""

    def hold_until(self, waiting: Iterable[QueuedRequest], rows: int, now_ns: int) -> int:
        """When the batch of these requests must run, which have `rows` rows, less than the limit; a past time means
        now."""
        ...

    def arrived(self, key: Hashable, now_ns: int) -> None:
        """A request of this caller has arrived."""
        ...

    def ran(self, requests: int, now_ns: int) -> None:
        """A batch of `requests` requests begins to run."""
        ...

    def answered(self, key: Hashable, now_ns: int) -> None:
        """A request of this caller has been answered."""
        ...


class QueuePolicy(Protocol):
    """How the requests of one signature are batched, and how many may wait."""

    batch_limit: int
    """Maximum rows of a batch."""
    divisible: bool
    """Whether its requests may be joined."""

    @property
    def limits(self) -> QueueLimits: ...

    @property
    def delay(self) -> Delay | None: ...


class Work(Protocol):
    """The work of a request: the signature to run."""

    level: int
    rows: int
    nbytes: int
    group: Hashable

    @property
    def served(self) -> QueuePolicy: ...


class QueuedRequest:
    """A queued request, or a part of one."""

    __slots__ = ()

    worker: Hashable
    """The worker that sent it: workers take turns."""
    key: Hashable
    """The caller that sent it, for a delay that learns when to expect more requests."""
    taken_ns: int
    deadline_ns: int
    prepared: Work

    @property
    def level(self) -> int:
        """INTERACTIVE or BULK."""
        return self.prepared.level

    @property
    def group(self) -> Hashable:
        """The group of requests that it may join; None if it never joins others."""
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

    # -- called by the queue -------------------------------------------------------------------------------------

    def hold(self, held: bool) -> None:
        """Note whether the request is held because the queue is full."""

    def following(self) -> Self | None:
        """The part that is queued when this one leaves the queue."""
        return None
