"""One request in flight, as the worker sees it: a header, an input region to write, an output region to read."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from worker_client.attachment.region import InputRegion, OutputRegion
from worker_client.attachment.retry_policy import BrokerLost, ForeignAnswer, ModelReplaced
from worker_client.wire.errors import STATUS_OK, BrokerError, ConnectionClosed, StaleSignature, from_status
from worker_client.wire.layout import (
    ANSWER_SEQUENCE,
    ANSWER_SIGNATURE,
    BULK,
    CANCELLED,
    DEADLINE_NS,
    DONE,
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

if TYPE_CHECKING:
    from worker_client.ipc.semaphore import WaitableSemaphore
    from worker_client.ipc.waiting import PollOrBlock


class Slot:
    """Owned by one thread between `Channel.claim` and `Channel.release`."""

    __slots__ = (
        "busy",
        "completed",
        "deadline_ns",
        "expired_ns",
        "extra_posts",
        "first",
        "index",
        "input",
        "missing_ns",
        "notify",
        "on_disconnect",
        "on_foreign",
        "on_moved",
        "output",
        "sequence",
        "signature_id",
        "unmapped",
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
        on_foreign: Callable[[str, int], BrokerError] = lambda why, _: ForeignAnswer(why),
        on_disconnect: Callable[[], BrokerError] = lambda: BrokerLost("the broker hung up"),
    ) -> None:
        self.index = index
        self.words = header.cast("Q")
        self.input = InputRegion(input, self.words)
        self.output = OutputRegion(1, output)
        self.first = input, output
        self.unmapped = False  # the broker uses a region that this process could not map
        self.completed = completed
        self.on_moved = on_moved
        self.on_foreign = on_foreign
        self.on_disconnect = on_disconnect
        self.sequence = int.from_bytes(
            os.urandom(7), "little"
        )  # random, so that no other slot of any worker has the same
        self.signature_id = 0  # as in the request line
        self.busy = False  # in the ring or the broker's hands: its completion is not yet acquired
        self.deadline_ns = NO_DEADLINE  # of the wait that blocks now; the watcher reads it
        self.expired_ns = 0  # the deadline for which the watcher has woken it; only the watcher writes it
        self.extra_posts = 0  # posts that did not come from the broker
        self.missing_ns = 0  # since when a post for an abandoned slot has been missing
        self.notify = NOTIFY_SLOT
        self.woken_ns = 0  # when the last answer was acquired
        self.waiting: PollOrBlock | None = (
            None  # how its caller waits; None: it blocks, because polling is not possible
        )

    def bind_input(self, memory: memoryview) -> None:
        """Use another, larger input region."""
        self.input = InputRegion(memory, self.words)

    def set_aside(self) -> None:
        """Mark a slot whose new region cannot be mapped. It becomes too small for any request, so its next use asks
        the broker for its first regions again, and then grows it."""
        self.unmapped = True
        self.bind_input(memoryview(b""))

    def go_back(self, region: int) -> None:
        """Use the first regions of the slot again; `region` is the broker's number of the output region."""
        self.input = InputRegion(self.first[0], self.words)
        self.output = OutputRegion(region, self.first[1])
        self.unmapped = False

    def prepare(self, signature_id: int, deadline_ns: int, notify: int, now_ns: int, poll_ns: int) -> None:
        """Fill the request line: the last step before the slot goes into the ring."""
        words = self.words
        words[SEQUENCE] = self.sequence = self.sequence + 1
        words[SIGNATURE] = self.signature_id = signature_id
        words[DEADLINE_NS] = deadline_ns
        words[NOTIFY] = self.notify = notify
        words[SUBMITTED_NS] = now_ns
        words[WAITING] = WAITING_POLLS if poll_ns > 0 else WAITING_BLOCKS

    @property
    def done(self) -> bool:
        """A hint: the result may be read only after acquiring `completed`."""
        return bool(self.words[DONE] == self.sequence)

    def cancel(self, sequence: int) -> None:
        """Notify the broker that no caller waits for this use of the slot; it may then skip the run."""
        self.words[CANCELLED] = sequence

    def result(self) -> tuple[np.ndarray, ...]:
        """Views of the outputs, valid until the slot is used again; strings are arrays of bytes objects. Raises the
        error that the broker reports, and ForeignAnswer for an answer to another use of the slot."""
        words, region = self.words, self.output
        head = region.head
        if head[ANSWER_SEQUENCE] != self.sequence or head[ANSWER_SIGNATURE] != self.signature_id:
            why = self._foreign(head[ANSWER_SEQUENCE], head[ANSWER_SIGNATURE])
            raise self.on_foreign(why, self.signature_id)
        table = region.body[: words[OUTPUT_BYTES]].tobytes()
        if words[STATUS] != STATUS_OK:
            raise self._error(words[STATUS], table.decode("utf-8", "replace"))
        arrays = region.arrays.get(table)
        if arrays is not None:
            return arrays
        try:
            return region.read(table)
        except ValueError as error:
            raise BrokerError(f"the broker's answer cannot be read: {error}") from None

    def _error(self, status: int, text: str) -> BrokerError:
        error = from_status(status, text)
        if isinstance(error, StaleSignature):
            self.on_moved()
            return ModelReplaced(text)
        return self.on_disconnect() if isinstance(error, ConnectionClosed) else error

    def _foreign(self, sequence: int, signature_id: int) -> str:
        return (
            f"slot {self.index} holds an answer to use {sequence} of signature {signature_id & ~BULK}, not to use "
            f"{self.sequence} of signature {self.signature_id & ~BULK}"
        )
