"""What waits for one thread, or for one model's runners: a batcher behind limits.

    add --> room for the model? --yes--> (split) --> batcher --> next_batch
                                \\--no--> held, by turns of the workers --> as soon as there is room

A model's queue is bounded in rows and bytes; a request is let in while both are below. What is held costs the broker
nothing: the request stays in its worker's slot, and that worker's slots are bounded.

No request fills the queue by its own size. One that is split counts with the parts that are queued so far; one that
runs in one piece, however long its first dimension is, counts as one batch at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from broker.scheduling.batcher import Batcher
from broker.scheduling.request import Delay, QueuedRequest, QueueLimits

T = TypeVar("T", bound=QueuedRequest)


class _Alone(QueuedRequest, Generic[T]):
    """A held request, as a batcher sees it: the batcher then is a queue in which workers take turns."""

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
    """One model's part of the queue."""

    __slots__ = ("held", "nbytes", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.nbytes = 0
        self.held: Batcher[_Alone[T]] = Batcher()


class Queue(Generic[T]):
    """Not thread-safe: it belongs to one thread, or to one lock.

    `split` gives the first parts that a request runs in, each within its batch limit: itself, if it is.
    """

    def __init__(self, split: Callable[[T], Sequence[T]]) -> None:
        self._split = split
        self._batcher: Batcher[T] = Batcher()
        self._admissions: dict[QueueLimits, _Admission[T]] = {}

    def __bool__(self) -> bool:
        """True if something waits. What is held waits behind something."""
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
        """The next batch; empty if nothing waits, or if all that waits is held for company."""
        batch = self._batcher.next_batch(now_ns)
        if batch:
            if batch[0].delay is not None:
                batch[0].delay.ran(len(batch), now_ns)
            self._leave(batch)
        return batch

    def answered(self, batch: Sequence[T], delay: Delay | None, now_ns: int) -> None:
        """A batch of this queue has been run, which had this delay."""
        if delay is not None:
            for item in batch:
                delay.answered(item.key, now_ns)

    def remove(self, limits: QueueLimits, wanted: Callable[[T], bool]) -> list[T]:
        """Take out all that is wanted of one model, as it came: for another queue. All of a group are, or none."""
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
        """When to ask again, where `next_batch` gave nothing though something waits."""
        return self._batcher.hold_until(now_ns)

    def waiting(self, limits: QueueLimits) -> tuple[int, int, int]:
        """Of one model: rows and bytes that wait, and requests held."""
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
        """All of a batch are of one model."""
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
    """How many of the queue's rows it takes."""
    return min(item.rows, item.batch_limit)
