"""Splits a request of more rows than a batch may have into parts that run in several batches.

     Slot --split--> Part, Part, Part --(each in its own batch or joined with others)--> rows of the slot's outputs
                                                                     the last one --> the slot is completed

A part takes the place of its slot wherever requests are queued and run. The slot returns to its worker only when the
last part has returned, with or without an error. Parts may run on several threads.

Parts refer to the split request, never the reverse: the memory of a worker that left is freed with the last part.

Only AHEAD parts of a request are queued at a time; when one leaves the queue, the next is queued. So a request of any
number of rows costs only the memory, and the intake only the time, of that many parts.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from broker.counters.failures import LATE_COMPLETION
from broker.counters.thread_counters import Stamps
from broker.data_plane.slot import Slot
from broker.scheduling.request import QueuedRequest
from worker_client.wire.errors import BrokerError
from worker_client.wire.tensors import TensorLayout

if TYPE_CHECKING:
    from broker.data_plane.channel import Channel
    from broker.data_plane.served_signature import ServedSignature


AHEAD = 16
"""Parts of one request that wait in the queue at a time."""


def other_rows(rows: int, outputs: Sequence[np.ndarray]) -> str:
    """The number of rows of the first output that does not have `rows` rows."""
    shape = next(output.shape for output in outputs if output.shape[:1] != (rows,))
    return f"{shape[0]}" if shape else "no rows"


class PreparedPart:
    """Some rows of a prepared request."""

    __slots__ = ("feeds", "group", "level", "nbytes", "ragged", "rows", "served")

    def __init__(self, slot: Slot, start: int, stop: int) -> None:
        prepared = slot.prepared
        self.served: ServedSignature = prepared.served
        self.level = prepared.level
        self.group: Hashable = prepared.group
        self.ragged = prepared.ragged
        self.rows = stop - start
        self.nbytes = prepared.nbytes * self.rows // prepared.rows
        self.feeds = tuple([feed[start:stop] for feed in prepared.feeds])


def _of_slot(name: str) -> Any:
    """A property of a part that forwards to the slot of its request."""
    return property(attrgetter(f"split_request.slot.{name}"))


class RequestPart(QueuedRequest):
    """Rows `start` to `stop` of a slot's request."""

    __slots__ = ("prepared", "split_request", "start", "stop")

    prepared: PreparedPart

    # A part is not a request of its own: the whole request is counted when all parts have returned.
    stamps: ClassVar[Stamps] = [0, 0, 0]

    def __init__(self, split_request: SplitRequest, start: int, stop: int) -> None:
        self.split_request = split_request
        self.start = start
        self.stop = stop
        self.prepared = PreparedPart(split_request.slot, start, stop)

    def __repr__(self) -> str:
        return f"<RequestPart {self.start}:{self.stop} of {self.split_request.slot!r}>"

    @property
    def slot(self) -> Slot:
        return self.split_request.slot

    words: memoryview = _of_slot("words")
    channel: Channel = _of_slot("channel")
    worker: Channel = _of_slot("worker")
    key: Hashable = _of_slot("key")
    taken_ns: int = _of_slot("taken_ns")
    deadline_ns: int = _of_slot("deadline_ns")
    held: bool = _of_slot("held")

    # -- waiting -------------------------------------------------------------------------------------------------

    @property
    def group(self) -> Hashable:
        return self.prepared.group

    def following(self) -> RequestPart | None:
        return self.split_request.next_part()

    # -- running -------------------------------------------------------------------------------------------------

    def unwanted(self, now_ns: int) -> bool:
        return self.split_request.over or self.split_request.slot.unwanted(now_ns)

    @property
    def use(self) -> int:
        """The slot's use when its request was split; 0 once this part has returned."""
        return 0 if self.split_request.returned(self) else self.split_request.use

    def complete(
        self, use: int, outputs: Sequence[np.ndarray], started_ns: int, finished_ns: int, batch_rows: int
    ) -> Slot | None:
        return self.split_request.take(self, outputs, started_ns, finished_ns, batch_rows)

    def fail(self, use: int, error: BrokerError) -> Slot | None:
        return self.split_request.give_up(self, error)


Runnable: TypeAlias = Slot | RequestPart


def split(request: Runnable) -> Sequence[Runnable]:
    """The first parts of a request; the request itself if it is within the limit, or if its model cannot run in
    parts."""
    prepared = request.prepared
    if (
        prepared.rows <= prepared.served.batch_limit
        or prepared.group is None
        or not prepared.served.divisible
    ):
        return (request,)
    if not prepared.nbytes:  # empty rows, of which a worker may send any number
        return (request,)
    if isinstance(request, RequestPart):  # its request was split when the limit was higher
        return (request,)
    return SplitRequest(request, prepared.served.batch_limit).first_parts()


class SplitRequest:
    """The state of a slot's request while its parts run."""

    def __init__(self, slot: Slot, limit: int) -> None:
        self.slot = slot
        self.use = slot.use
        self.over = False  # the other parts need not run: one failed, or the model cannot run in parts
        self._limit = limit
        self._next_start = 0  # the first row that is in no part yet
        self._out: set[int] = set()  # the first rows of the parts that have not returned
        self._rows = slot.prepared.rows
        self._lock = threading.Lock()
        self._error: BrokerError | None = None
        self._indivisible = False
        self._targets: tuple[np.ndarray, ...] | None = None
        self._layout: TensorLayout | None = None
        self._started_ns = 0
        self._finished_ns = 0
        self._batch_rows = 0

    def first_parts(self) -> Sequence[RequestPart]:
        """The parts that are queued first; `next_part` gives one more for each part that leaves the queue."""
        parts = [self.next_part() for _ in range(AHEAD)]
        return [part for part in parts if part is not None]

    def next_part(self) -> RequestPart | None:
        """The next part; None if all rows are in parts, or if the other rows need not run.

        While some rows are in no part, at least one part has not returned: a part leaves the queue, which makes the
        next one, before it is run and returned.
        """
        with self._lock:
            start = self._next_start
            if self.over or start >= self._rows:
                return None
            self._next_start = min(start + self._limit, self._rows)
            self._out.add(start)
            return RequestPart(self, start, self._next_start)

    def returned(self, part: RequestPart) -> bool:
        return part.start not in self._out

    def take(
        self,
        part: RequestPart,
        outputs: Sequence[np.ndarray],
        started_ns: int,
        finished_ns: int,
        batch_rows: int,
    ) -> Slot | None:
        """Copy a part's outputs to their place. Returns the slot if its request must run in one piece after all."""
        with self._lock:
            if self.returned(part):
                self._refuse_late(part)
                return None
            self._note(started_ns, finished_ns, batch_rows)
            if not self.over:
                try:
                    self._place(part, outputs)
                except BrokerError as error:
                    self._end(error)
            return self._return(part)

    def give_up(self, part: RequestPart, error: BrokerError) -> Slot | None:
        """Note that a part has failed, or was not run. Returns the same as `take`."""
        with self._lock:
            if self.returned(part):
                self._refuse_late(part)
                return None
            if not self.over:
                self._end(error)
            return self._return(part)

    def _refuse_late(self, part: RequestPart) -> None:
        failures = self.slot.channel.failures
        failures.fault(LATE_COMPLETION, f"{part!r} was completed twice; nothing was written")

    def _note(self, started_ns: int, finished_ns: int, batch_rows: int) -> None:
        self._started_ns = min(self._started_ns or started_ns, started_ns)
        self._finished_ns = max(self._finished_ns, finished_ns)
        self._batch_rows = max(self._batch_rows, batch_rows)

    def _end(self, error: BrokerError) -> None:
        self.over = True
        self._error = error

    def _place(self, part: RequestPart, outputs: Sequence[np.ndarray]) -> None:
        if not self.slot.prepared.served.divisible:  # found out while its parts ran
            self._must_run_whole("")
            return
        if any(output.shape[:1] != (part.rows,) for output in outputs):
            self._must_run_whole(f"{part.rows} rows had an answer of {other_rows(part.rows, outputs)}")
            return
        if self._targets is None:
            shapes = [(self.slot.prepared.rows, *output.shape[1:]) for output in outputs]
            if self.slot.prepared.served.gives_strings:  # placed when all parts have returned
                self._targets = tuple(map(np.empty, shapes, [output.dtype for output in outputs]))
            else:
                self._layout, self._targets = self.slot.places_for(shapes)
        for target, output in zip(self._targets, outputs):
            if target.shape[1:] != output.shape[1:]:
                self._must_run_whole("the shape of its answer depends on the rows in the batch")
                return
            target[part.start : part.stop] = output

    def _must_run_whole(self, reason: str) -> None:
        """Note that the model's outputs do not have one row per input row, or vary in shape."""
        self.over = self._indivisible = True
        self.slot.prepared.served.keep_apart(reason)

    def _return(self, part: RequestPart) -> Slot | None:
        """Return a part. The last part hands the slot back to its worker."""
        self._out.discard(part.start)
        if self._out:
            return None
        error, self._error = self._error, None  # its traceback may refer to us
        if error is not None:
            self.slot.fail(self.use, error)
        elif self._indivisible:
            return self.slot
        else:
            assert self._targets is not None
            served, stamps = self.slot.prepared.served, self.slot.stamps
            times = self._started_ns, self._finished_ns, self._batch_rows
            if self._layout is None:
                self.slot.complete(self.use, self._targets, *times)
            else:
                self.slot.finish(self.use, self._layout, *times)
            served.answered_whole(stamps, self._started_ns)
        return None
