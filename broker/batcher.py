"""Which of the waiting requests run together: pure decisions, no clock, no memory, no TensorFlow.

The contract: whatever waits when a runner gets free forms the next batch. Requests join if they are of one group (same
signature, same shape of a row), in the order they came, up to `limit` rows; a request larger than the limit runs by
itself. Groups take turns, so that a busy one delays another by one batch at most. Nothing ever waits for company.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Not thread-safe: it belongs to one thread."""

    def __init__(self) -> None:
        self._groups: OrderedDict[Hashable, deque[tuple[T, int, int]]] = OrderedDict()
        self._alone = 0

    def __bool__(self) -> bool:
        return bool(self._groups)

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._groups.values())

    def add(self, item: T, group: Hashable | None, rows: int, limit: int) -> None:
        """Let a request wait. `group` None: it never joins another. `limit`: rows of a batch of this group."""
        if group is None:
            self._alone += 1
            group = ("alone", self._alone)
        queue = self._groups.get(group)
        if queue is None:
            queue = self._groups[group] = deque()
        queue.append((item, rows, limit))

    def next_batch(self) -> list[T]:
        """The next batch, never empty. Raises IndexError if nothing waits."""
        if not self._groups:
            raise IndexError("nothing waits")
        group, queue = next(iter(self._groups.items()))
        item, total, limit = queue.popleft()
        batch = [item]
        while queue and total + queue[0][1] <= limit:
            item, rows, _ = queue.popleft()
            batch.append(item)
            total += rows
        if queue:
            self._groups.move_to_end(group)
        else:
            del self._groups[group]
        return batch
