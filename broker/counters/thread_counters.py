"""Counts the runs of one signature on one thread. Only that thread writes, so no lock is needed; any thread may read.

    submitted --queue--> taken --wait--> started --run--> finished --copy--> completed
    |<------------------------------------ total ------------------------------------>|

`queue`, `wait` and `total` are counted once for each request, `run` and `copy` once for each run. The worker also sees
the wake-up, after `total`; only the worker's own timings contain it.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.counters.histogram import new_counts

_MAX_SIZES = 4096  # distinct sizes that are counted: for a model that does not batch, workers choose them

Stamps = list[int]
"""[submitted, taken, completed] of one request; completed is 0 before the answer, and if the answer is an error."""

STAGES = ("queue", "wait", "run", "copy", "total")


class ThreadCounters:
    __slots__ = (
        "copy",
        "copy_ns",
        "gather_ns",
        "input_bytes",
        "joined_bytes",
        "output_bytes",
        "padded_rows",
        "paddings",
        "queue",
        "queue_ns",
        "rows",
        "run",
        "run_ns",
        "sizes",
        "total",
        "total_ns",
        "wait",
        "wait_ns",
    )

    def __init__(self) -> None:
        self.queue, self.wait, self.total = new_counts(), new_counts(), new_counts()
        self.run, self.copy = new_counts(), new_counts()
        self.queue_ns = self.wait_ns = self.total_ns = self.run_ns = self.copy_ns = 0
        self.gather_ns = 0  # part of `wait`: joining the rows of several requests
        self.rows = 0
        self.padded_rows = 0
        self.sizes: dict[int, int] = {}  # rows of a run, without padding -> runs
        self.paddings: dict[int, int] = {}  # rows of padding, where there was any -> runs
        self.input_bytes = 0
        self.output_bytes = 0
        self.joined_bytes = 0  # inputs that the broker copied to join them, padding included

    def ran_one(self, stamps: Stamps, started: int, finished: int, rows: int) -> None:
        """Count a run of one request, or a part of one, that read its inputs from its slot and wrote its outputs
        there."""
        try:
            self.sizes[rows] += 1
        except KeyError:
            self._new_size(rows)
        self.rows += rows
        ns = finished - started
        self.run_ns += ns
        self.run[(ns * ns).bit_length()] += 1
        submitted, taken, completed = stamps
        if completed:
            ns = completed - finished
            self.copy_ns += ns
            self.copy[(ns * ns).bit_length()] += 1
            ns = taken - submitted
            self.queue_ns += ns
            self.queue[(ns * ns).bit_length()] += 1
            ns = started - taken
            self.wait_ns += ns
            self.wait[(ns * ns).bit_length()] += 1
            ns = completed - submitted
            self.total_ns += ns
            self.total[(ns * ns).bit_length()] += 1

    def ran_joined(
        self, begun: int, started: int, finished: int, ended: int, rows: int, padding: int
    ) -> None:
        """Count one run for several requests, or with padding; `answered` counts the requests."""
        try:
            self.sizes[rows] += 1
        except KeyError:
            self._new_size(rows)
        self.rows += rows
        if padding:
            self.padded_rows += padding
            paddings = self.paddings
            paddings[padding] = paddings.get(padding, 0) + 1
        self.gather_ns += started - begun
        ns = finished - started
        self.run_ns += ns
        self.run[(ns * ns).bit_length()] += 1
        ns = ended - finished
        self.copy_ns += ns
        self.copy[(ns * ns).bit_length()] += 1

    def answered(self, batch: Sequence[Stamps], started: int) -> None:
        """Count the requests of one run that have been answered."""
        queue, wait, total = self.queue, self.wait, self.total
        queue_ns = wait_ns = total_ns = 0
        for submitted, taken, completed in batch:
            if completed:
                ns = taken - submitted
                queue_ns += ns
                queue[(ns * ns).bit_length()] += 1
                ns = started - taken
                wait_ns += ns
                wait[(ns * ns).bit_length()] += 1
                ns = completed - submitted
                total_ns += ns
                total[(ns * ns).bit_length()] += 1
        self.queue_ns += queue_ns
        self.wait_ns += wait_ns
        self.total_ns += total_ns

    def _new_size(self, rows: int) -> None:
        sizes = self.sizes
        if len(sizes) >= _MAX_SIZES:
            rows = 1 << rows.bit_length()
        sizes[rows] = sizes.get(rows, 0) + 1
