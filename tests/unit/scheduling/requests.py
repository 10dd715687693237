"""Requests as the scheduler sees them, without a worker, a slot or a model behind them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from broker.scheduling.request import INTERACTIVE, Delay, QueuedRequest


@dataclass(frozen=True)
class Limits:
    """The bound of one model's queue."""

    max_rows: int = 1 << 30
    max_bytes: int = 1 << 30

    def __hash__(self) -> int:
        return id(self)


UNBOUNDED = Limits()


@dataclass(eq=False)
class Request(QueuedRequest):
    name: str
    worker: Hashable = "worker"
    group: Hashable = "group"
    rows: int = 1
    batch_limit: int = 8
    level: int = INTERACTIVE
    delay: Delay | None = None
    taken_ns: int = 0
    deadline_ns: int = 1 << 62
    nbytes: int = 1
    limits: Limits = UNBOUNDED
    held: bool = False
    parts: list[Request] = field(default_factory=list)
    more: list[Request] = field(default_factory=list)  # parts that follow when this one leaves the queue

    def __repr__(self) -> str:
        return self.name

    @property
    def key(self) -> Hashable:
        return self.worker

    def hold(self, held: bool) -> None:
        self.held = held

    def split(self) -> list[Request]:
        return self.parts or [self]

    def following(self) -> Request | None:
        return self.more.pop(0) if self.more else None


def names(batch: list[Request]) -> str:
    return " ".join(request.name for request in batch)
