"""Where the time of one call went, from the stamps that both sides leave in the slot's header.

    submitted --queue--> taken --wait--> started --run--> finished --copy--> completed --wake-up--> woken
    |<------------------------------------------- total ------------------------------------------------>|

All are CLOCK_MONOTONIC, which all processes of a machine share. The broker counts the same stages up to `completed` in
its metrics; only the worker sees the wake-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from worker_client.wire.layout import (
    BATCH_ROWS,
    COMPLETED_NS,
    FINISHED_NS,
    STARTED_NS,
    SUBMITTED_NS,
    TAKEN_NS,
)

if TYPE_CHECKING:
    from worker_client.attachment.slot import Slot


class Timings(NamedTuple):
    """One call that was answered with outputs. Stamps are nanoseconds of `time.monotonic_ns()`, stages microseconds."""

    submitted_ns: int
    taken_ns: int
    started_ns: int
    finished_ns: int
    completed_ns: int
    woken_ns: int
    batch_rows: int
    """Rows of the batch in which the call ran, or of the largest batch if it ran in several."""

    @classmethod
    def of(cls, slot: Slot) -> Timings:
        """The timings of the answer that the slot holds."""
        words = slot.words
        return cls(
            *(words[SUBMITTED_NS], words[TAKEN_NS], words[STARTED_NS], words[FINISHED_NS]),
            *(words[COMPLETED_NS], slot.woken_ns, words[BATCH_ROWS]),
        )

    @property
    def queue_us(self) -> float:
        """Time in the submission ring, until the broker took the request."""
        return (self.taken_ns - self.submitted_ns) / 1000

    @property
    def wait_us(self) -> float:
        """Time spent waiting for its turn, for other requests of its batch, and for their inputs to be joined."""
        return (self.started_ns - self.taken_ns) / 1000

    @property
    def run_us(self) -> float:
        """Time of the model's run, or of all runs if the request ran in parts."""
        return (self.finished_ns - self.started_ns) / 1000

    @property
    def copy_us(self) -> float:
        """Time to copy the outputs into the slot, after those of the requests before it in the batch."""
        return (self.completed_ns - self.finished_ns) / 1000

    @property
    def wake_up_us(self) -> float:
        """Time until the caller saw the answer."""
        return (self.woken_ns - self.completed_ns) / 1000

    @property
    def total_us(self) -> float:
        return (self.woken_ns - self.submitted_ns) / 1000

    def __str__(self) -> str:
        stages = ("queue", "wait", "run", "copy", "wake_up")
        parts = ", ".join(f"{stage} {getattr(self, f'{stage}_us'):.1f}" for stage in stages)
        return f"{self.total_us:.1f} us ({parts}; {self.batch_rows} rows)"
