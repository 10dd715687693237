"""Which of the waiting requests run together: pure decisions, no clock, no memory, no TensorFlow.

The contract. Requests join a batch if they are of one group (same signature, same shape of a row), up to `limit` rows;
a request larger than the limit runs by itself. `next_batch` returns a batch of the requests that wait now: no request
waits for more requests unless its group has a `Delay`.

Workers take turns (`turns.py`). The batch belongs to the worker whose turn it is: it contains its first waiting
request, and the remaining room is shared among the other workers of that group, one request each in turn. So a worker
waits for one batch of each other waiting worker, however long their queues are; within one group and with no more
workers than rows in a batch, it waits for none. A worker's requests of one group and priority keep their order.

Bulk requests fill the room that interactive requests leave. They get a batch of their own when no interactive request
waits, and at the latest after BULK_EVERY - 1 other batches.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from broker.scheduling.request import BULK, INTERACTIVE, Delay, QueuedRequest
from broker.scheduling.turns import Turns

BULK_EVERY = 8

T = TypeVar("T", bound=QueuedRequest)


class _Group(Generic[T]):
    """The requests of one group that wait: for each priority, the workers in turn, each with a queue."""

    __slots__ = ("delay", "lanes", "limit", "rows")

    def __init__(self, limit: int, delay: Delay | None) -> None:
        self.limit = limit
        self.delay = delay
        self.rows = 0
        self.lanes: tuple[OrderedDict[Hashable, deque[T]], ...] = (OrderedDict(), OrderedDict())

    def hold_until(self, now_ns: int) -> int:
        """When this group's batch must run at the latest; a past time means now."""
        if self.delay is None or self.rows >= self.limit:
            return 0
        waiting = [item for lanes in self.lanes for lane in lanes.values() for item in lane]
        return self.delay.hold_until(waiting, self.rows, now_ns)


class Batcher(Generic[T]):
    """The waiting requests of one queue. Not thread-safe: it belongs to one thread, or to one lock."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, _Group[T]] = {}
        self._turns: tuple[Turns[_Group[T]], ...] = (Turns(), Turns())  # for each priority
        self._count = 0
        self._alone = 0
        self._since_bulk = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def __len__(self) -> int:
        return self._count

    def add(self, item: T) -> None:
        """Add a waiting request."""
        key = item.group
        if key is None:
            self._alone += 1
            key = ("alone", self._alone)
        group = self._groups.get(key)
        if group is None:
            # No delay for a request that others cannot join.
            delay = None if item.group is None else item.delay
            group = self._groups[key] = _Group(item.batch_limit, delay)
        worker, level = item.worker, item.level
        lanes = group.lanes[level]
        lane = lanes.get(worker)
        if lane is None:
            lane = lanes[worker] = deque()
            self._turns[level].enter(worker, key, group)
        lane.append(item)
        group.rows += item.rows
        self._count += 1

    def next_batch(self, now_ns: int) -> list[T]:
        """The next batch; empty if nothing waits, or if all waiting requests are held for more requests."""
        for level in self._levels():
            for worker, groups in self._turns[level]:
                for key, group in groups.items():
                    if group.delay is None or group.hold_until(now_ns) <= now_ns:
                        return self._take(level, worker, key, group)
        return []

    def remove(self, wanted: Callable[[T], bool]) -> list[T]:
        """Take out all wanted requests, each worker's in order. `wanted` must agree for all requests of a group."""
        removed: list[T] = []
        for level, turns in enumerate(self._turns):
            for worker, groups in turns.items():
                for key, group in groups:
                    lanes = group.lanes[level]
                    while worker in lanes and wanted(lanes[worker][0]):
                        removed.append(self._pop(level, worker, key, group))
        self._groups = {key: group for key, group in self._groups.items() if any(group.lanes)}
        return removed

    def hold_until(self, now_ns: int) -> int:
        """When to call `next_batch` again if it returned nothing although requests wait."""
        return min((group.hold_until(now_ns) for group in self._groups.values()), default=now_ns)

    def _levels(self) -> tuple[int, int]:
        bulk_is_due = self._since_bulk >= BULK_EVERY - 1
        return (BULK, INTERACTIVE) if bulk_is_due else (INTERACTIVE, BULK)

    def _take(self, level: int, worker: Hashable, key: Hashable, group: _Group[T]) -> list[T]:
        batch = [self._pop(level, worker, key, group)]
        room = group.limit - batch[0].rows
        for other in (INTERACTIVE, BULK):
            room = self._fill(batch, room, other, key, group)
        self._turns[level].had_turn(worker, key)
        if level == BULK or not self._turns[BULK]:
            self._since_bulk = 0
        else:
            self._since_bulk += 1
        if not group.lanes[INTERACTIVE] and not group.lanes[BULK]:
            del self._groups[key]
        return batch

    def _fill(self, batch: list[T], room: int, level: int, key: Hashable, group: _Group[T]) -> int:
        """Add one request of each worker in turn while there is room. Returns the room that is left."""
        lanes = group.lanes[level]
        fits = True
        while room > 0 and fits:
            fits = False
            for worker in list(lanes):
                rows = lanes[worker][0].rows
                if rows <= room:
                    batch.append(self._pop(level, worker, key, group))
                    room -= rows
                    fits = True
        return room

    def _pop(self, level: int, worker: Hashable, key: Hashable, group: _Group[T]) -> T:
        lanes = group.lanes[level]
        lane = lanes[worker]
        item = lane.popleft()
        if lane:
            lanes.move_to_end(worker)
        else:
            del lanes[worker]
        self._turns[level].served(worker, key, bool(lane))
        group.rows -= item.rows
        self._count -= 1
        return item
