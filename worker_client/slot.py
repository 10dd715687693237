"""One request in flight, as the worker sees it: a header, an input region to write, an output region to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from worker_client.absence import ModelMoved
from worker_client.wire.errors import STATUS_OK, BrokerError, Moved, from_status
from worker_client.wire.layout import (
    CANCELLED,
    DEADLINE_NS,
    DONE,
    INPUT_BYTES,
    NO_DEADLINE,
    NOTIFY,
    NOTIFY_SLOT,
    OUTPUT_BYTES,
    SEQUENCE,
    SIGNATURE,
    STATUS,
    SUBMITTED_NS,
    WAITING,
    WAITING_BLOCKS,
    WAITING_POLLS,
)
from worker_client.wire.semaphore import WaitableSemaphore
from worker_client.wire.strings import StringView
from worker_client.wire.tensors import TensorLayout, read_table, views
from worker_client.wire.waiting import PollOrBlock

_CACHED = 64  # layouts a slot remembers on each side; shapes beyond that start over


class Slot:
    """Owned by one thread between `Channel.claim` and `Channel.release`."""

    __slots__ = (
        "_input_views",
        "_layout",
        "_output_views",
        "_string_views",
        "busy",
        "completed",
        "deadline_ns",
        "extra_posts",
        "index",
        "input",
        "missing_ns",
        "notify",
        "on_moved",
        "output",
        "output_region",
        "sequence",
        "waiting",
        "woken_ns",
        "words",
    )

    def __init__(
        self,
        index: int,
        header: memoryview,
        input: memoryview,
        output: memoryview,
        completed: WaitableSemaphore,
        on_moved: Callable[[], None] = lambda: None,
    ) -> None:
        self.index = index
        self.words = header.cast("Q")
        self.input = input
        self.output = output
        self.output_region = 1
        self.completed = completed
        self.on_moved = on_moved
        self.sequence = 0
        self.busy = False  # in the ring or the broker's hands: its completion is not yet acquired
        self.deadline_ns = NO_DEADLINE  # of the wait that blocks now; the deadline keeper reads it
        self.extra_posts = 0  # posts that did not come from the broker
        self.missing_ns = 0  # since when an abandoned slot is known to miss a post
        self.notify = NOTIFY_SLOT
        self.woken_ns = 0  # when its caller, or who looks for him, acquired the last answer
        self.waiting: PollOrBlock | None = (
            None  # how its caller waits; None: it blocks, as polling is no choice
        )
        self._layout: TensorLayout | None = None
        self._input_views: dict[TensorLayout, tuple[Any, ...]] = {}
        self._output_views: dict[bytes, tuple[np.ndarray, ...]] = {}
        self._string_views: dict[bytes, tuple[Any, ...]] = {}  # with strings among them

    def bind_input(self, region: memoryview) -> None:
        """Use another input region, larger than the one before."""
        self.input = region
        self._layout = None
        self._input_views.clear()

    def bind_output(self, number: int, region: memoryview) -> None:
        """Use another output region, of which the broker announced the number."""
        self.output = region
        self.output_region = number
        self._output_views.clear()
        self._string_views.clear()

    def lay(self, layout: TensorLayout) -> tuple[Any, ...]:
        """Views to write the inputs through, arrays and StringViews. `layout` must fit into the input region."""
        arrays = self._input_views.get(layout)
        if arrays is None:
            if len(self._input_views) >= _CACHED:
                self._input_views.clear()
            arrays = self._input_views[layout] = views(layout.placements, self.input)
        if self._layout is not layout:
            self.input[: len(layout.table)] = layout.table
            self.words[INPUT_BYTES] = len(layout.table)
            self._layout = layout
        return arrays

    def prepare(self, signature_id: int, deadline_ns: int, notify: int, now_ns: int, poll_ns: int) -> None:
        """Fill the request line: the last step before the slot goes into the ring."""
        words = self.words
        words[SEQUENCE] = self.sequence = self.sequence + 1
        words[SIGNATURE] = signature_id
        words[DEADLINE_NS] = deadline_ns
        words[NOTIFY] = self.notify = notify
        words[SUBMITTED_NS] = now_ns
        words[WAITING] = WAITING_POLLS if poll_ns > 0 else WAITING_BLOCKS

    @property
    def done(self) -> bool:
        """A hint: the result may be read only after acquiring `completed`."""
        return bool(self.words[DONE] == self.sequence)

    def cancel(self, sequence: int) -> None:
        """Tell the broker that nobody waits for this use of the slot; it may then skip the run."""
        self.words[CANCELLED] = sequence

    def result(self) -> tuple[np.ndarray, ...]:
        """Views of the outputs, valid until the slot is used again; arrays of bytes objects where they are strings.
        Raises what the broker reports."""
        words = self.words
        nbytes = words[OUTPUT_BYTES]
        raw = self.output[:nbytes].tobytes()
        if words[STATUS] != STATUS_OK:
            raise self._error(words[STATUS], raw.decode("utf-8", "replace"))
        arrays = self._output_views.get(raw)
        return self._read_output(raw) if arrays is None else arrays

    def _error(self, status: int, text: str) -> BrokerError:
        error = from_status(status, text)
        if isinstance(error, Moved):
            self.on_moved()
            return ModelMoved(text)
        return error

    def _read_output(self, table: bytes) -> tuple[np.ndarray, ...]:
        """The outputs behind a table that was not seen before, or behind one with strings, which are read each time."""
        try:
            arrays = self._string_views.get(table) or views(read_table(table, len(self.output)), self.output)
            read = tuple([view.read() if isinstance(view, StringView) else view for view in arrays])
        except ValueError as error:
            raise BrokerError(f"the broker's answer cannot be read: {error}") from None
        if table not in self._string_views:
            self._remember(table, arrays)
        return read

    def _remember(self, table: bytes, arrays: tuple[Any, ...]) -> None:
        found = self._output_views
        for array in arrays:
            if isinstance(array, StringView):
                found = self._string_views
            else:
                array.flags.writeable = False
        if len(found) >= _CACHED:
            found.clear()
        found[table] = arrays
