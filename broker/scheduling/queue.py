"""The queue of one thread, or of one model's runners: a batcher behind limits.

    add --> room for the model? --yes--> (split) --> batcher --> next_batch
                                 \\--no--> held; workers take turns --> admitted as soon as there is room

A model's queue is bounded in rows and bytes; requests are admitted while both are below their limits. A held request
costs the broker nothing: it stays in its worker's slot, and each worker has a bounded number of slots.

No request fills the queue by its own size. A split request counts with the parts that are queued; a request that runs
in one piece counts as one batch at most, however long its first dimension is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from broker.scheduling.batcher import Batcher
from broker.scheduling.request import Delay, QueuedRequest, QueueLimits

T = TypeVar("T", bound=QueuedRequest)


class _Alone(QueuedRequest, Generic[T]):
    """A held request that joins no other: a batcher of these is a queue in which workers take turns."""

    __slots__ = ("item", "level", "worker")

    level: int
    group = None
    rows = 1
    batch_limit = 1
    delay = None

    def __init__(self, item: T) -> None:
        self.item = item
        self.worker = item.worker
        self.level = item.level


class _Admission(Generic[T]):
    """The admitted and held requests of one model."""

    __slots__ = ("held", "nbytes", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.nbytes = 0
        self.held: Batcher[_Alone[T]] = Batcher()


class Queue(Generic[T]):
    """A queue with limits for each model. Not thread-safe: it belongs to one thread, or to one lock.

    `split` gives the first parts of a request, each within its batch limit; the request itself if it is within the
    limit.
    """

    def __init__(self, split: Callable[[T], Sequence[T]]) -> None:
        self._split = split
        self._batcher: Batcher[T] = Batcher()
        self._admissions: dict[QueueLimits, _Admission[T]] = {}

    def __bool__(self) -> bool:
        """True if a request waits. Held requests always wait behind an admitted one."""
        return bool(self._batcher)

    def add(self, item: T) -> None:
        admission = self._admissions.get(item.limits)
        if admission is None:
            admission = self._admissions[item.limits] = _Admission()
        if item.delay is not None:
            item.delay.arrived(item.key, item.taken_ns)
        if admission.held or self._is_full(admission, item.limits):
            item.hold(True)
            admission.held.add(_Alone(item))
        else:
            self._enter(admission, item)

    def next_batch(self, now_ns: int) -> list[T]:
        """The next batch; empty if nothing waits, or if all waiting requests are held for more requests."""
        batch = self._batcher.next_batch(now_ns)
        if batch:
            if batch[0].delay is not None:
                batch[0].delay.ran(len(batch), now_ns)
            self._leave(batch)
        return batch

    def answered(self, batch: Sequence[T], delay: Delay | None, now_ns: int) -> None:
        """Note that a batch of this queue, whose group has this delay, has been run."""
        if delay is not None:
            for item in batch:
                delay.answered(item.key, now_ns)

    def remove(self, limits: QueueLimits, wanted: Callable[[T], bool]) -> list[T]:
        """Take out all wanted requests of one model, unsplit, for another queue. `wanted` must agree for all of a
        group."""
        admission = self._admissions.get(limits)
        if admission is None:
            return []
        queued = self._batcher.remove(lambda item: item.limits is limits and wanted(item))
        for item in queued:
            admission.rows -= _counted(item)
            admission.nbytes -= item.nbytes
        held = [alone.item for alone in admission.held.remove(lambda alone: wanted(alone.item))]
        for item in held:
            item.hold(False)
        self._let_in(admission, limits)
        return queued + held

    def hold_until(self, now_ns: int) -> int:
        """When to call `next_batch` again if it returned nothing although requests wait."""
        return self._batcher.hold_until(now_ns)

    def waiting(self, limits: QueueLimits) -> tuple[int, int, int]:
        """The rows and bytes of one model that wait, and its held requests."""
        admission = self._admissions.get(limits)
        return (admission.rows, admission.nbytes, len(admission.held)) if admission else (0, 0, 0)

    def _is_full(self, admission: _Admission[T], limits: QueueLimits) -> bool:
        return admission.rows >= limits.max_rows or admission.nbytes >= limits.max_bytes

    def _enter(self, admission: _Admission[T], item: T) -> None:
        for part in self._split(item):
            self._queue(admission, part)

    def _queue(self, admission: _Admission[T], part: T) -> None:
        admission.rows += _counted(part)
        admission.nbytes += part.nbytes
        self._batcher.add(part)

    def _leave(self, batch: list[T]) -> None:
        """Count a batch out, whose requests are all of one model."""
        limits = batch[0].limits
        admission = self._admissions[limits]
        for item in batch:
            admission.rows -= _counted(item)
            admission.nbytes -= item.nbytes
            following = item.following()
            if following is not None:
                self._queue(admission, following)
        self._let_in(admission, limits)

    def _let_in(self, admission: _Admission[T], limits: QueueLimits) -> None:
        while admission.held and not self._is_full(admission, limits):
            item = admission.held.next_batch(0)[0].item
            item.hold(False)
            self._enter(admission, item)


def _counted(item: QueuedRequest) -> int:
    """The number of rows with which a request counts."""
    return min(item.rows, item.batch_limit)
