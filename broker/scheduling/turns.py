"""Decides which worker's turn it is, among workers of one priority. Pure.

    a worker that had nothing waiting --> new --turn--> old --turn--> the end of old ...
                                          first         | nothing waits when its turn comes: it leaves

New workers go before old ones, as in fq_codel (RFC 8290), so that a worker with one request at a time alternates with a
worker whose queue never ends: its next request comes when the next run has begun, and is the next to run all the same.

A worker that has had its turn stands at the end of the old ones, even if nothing of it waits any more, and is new again
only when its turn has come there. So between two turns of one worker each other worker has at most one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

G = TypeVar("G")


class Turns(Generic[G]):
    """The workers in turn, each with the groups it waits in, in turn. True if some wait."""

    __slots__ = ("_new", "_old", "_waiting")

    def __init__(self) -> None:
        self._new: OrderedDict[Hashable, OrderedDict[Hashable, G]] = OrderedDict()
        self._old: OrderedDict[Hashable, OrderedDict[Hashable, G]] = OrderedDict()
        self._waiting = 0  # workers that wait in some group

    def __bool__(self) -> bool:
        return self._waiting > 0

    def __iter__(self) -> Iterator[tuple[Hashable, OrderedDict[Hashable, G]]]:
        """The waiting workers with their groups, the next in turn first. Stop iterating before anything changes."""
        yield from self._new.items()
        self._let_go()
        for worker, groups in self._old.items():
            if groups:
                yield worker, groups

    def enter(self, worker: Hashable, key: Hashable, group: G) -> None:
        """A request of this worker waits in a group in which none of its requests waited."""
        groups = self._groups_of(worker)
        if groups is None:
            groups = self._new[worker] = OrderedDict()
        if not groups:
            self._waiting += 1
        groups[key] = group

    def served(self, worker: Hashable, key: Hashable, more: bool) -> None:
        """A request of this worker and group has been taken; `more` tells whether another one waits there."""
        groups = self._groups_of(worker)
        assert groups is not None
        if not more:
            del groups[key]
            self._waiting -= not groups
        if len(groups) <= more:  # with other groups it keeps its turn, or those might wait without end
            self._to_the_end(worker, groups)

    def had_turn(self, worker: Hashable, key: Hashable) -> None:
        """The batch that was taken is this worker's and this group's turn."""
        groups = self._groups_of(worker)
        if groups is not None:
            self._to_the_end(worker, groups)
            if key in groups:
                groups.move_to_end(key)

    def items(self) -> list[tuple[Hashable, list[tuple[Hashable, G]]]]:
        """A copy of the waiting workers with their groups, in turn."""
        return [(worker, list(groups.items())) for worker, groups in [*self._new.items(), *self._old.items()]]

    def _groups_of(self, worker: Hashable) -> OrderedDict[Hashable, G] | None:
        groups = self._new.get(worker)
        return self._old.get(worker) if groups is None else groups

    def _to_the_end(self, worker: Hashable, groups: OrderedDict[Hashable, G]) -> None:
        self._new.pop(worker, None)
        if not self._waiting:  # nobody is kept waiting by who comes next
            self._old.clear()
            return
        self._old[worker] = groups
        self._old.move_to_end(worker)

    def _let_go(self) -> None:
        """The turn has come of those at the head for which nothing waits."""
        while self._old:
            worker, groups = next(iter(self._old.items()))
            if groups:
                return
            del self._old[worker]
