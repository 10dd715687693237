"""Deadlines of blocked threads: the watcher wakes each thread once when its deadline has passed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from worker_client.wire.layout import NO_DEADLINE


class Sleeper(Protocol):
    deadline_ns: int
    """When to wake it. Only the sleeper writes this."""
    expired_ns: int
    """The deadline for which it was woken. Only the watcher writes this; it does not touch `deadline_ns`, because the
    sleeper may have set its next deadline by now."""


S = TypeVar("S", bound=Sleeper)


def expire(sleepers: Iterable[S], now_ns: int, wake: Callable[[S], object]) -> int:
    """Wake the sleepers whose deadline has passed. Returns the earliest deadline of the others."""
    earliest = NO_DEADLINE
    for sleeper in sleepers:
        deadline_ns = sleeper.deadline_ns
        if deadline_ns > now_ns:
            earliest = min(earliest, deadline_ns)
        elif deadline_ns != sleeper.expired_ns:
            sleeper.expired_ns = deadline_ns
            wake(sleeper)
    return earliest
