"""First runs with zeros: they spare callers the cost of first use and tell light models from heavy ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns

import numpy as np

from broker.models.aligned import aligned_zeros
from broker.models.model import Run
from worker_client.wire.errors import BrokerError
from worker_client.wire.signature import Signature, TensorSpec

LIGHT_LIMIT_US = 500
"""A signature whose one-row run takes no longer runs inline on the intake thread."""

MEASURE_SECONDS = 0.3
BATCH_SECONDS = 0.5
"""What the batch at warm-up may take, judged by one row: a heavier model gets a smaller one."""
MIN_RUNS = 3
MAX_RUNS = 200

FREE_SIZES = (64, 1)
"""What a free dimension other than the rows is taken for where speed is compared: some length, else the smallest."""

_RUN_ERRORS = (BrokerError, MemoryError)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one row of a signature costs. `note` tells what went wrong; `p50_us` is None where that was the row."""

    p50_us: float | None
    light: bool
    note: str | None = None


def measure(run: Run, signature: Signature, max_rows: int = 1, seconds: float = MEASURE_SECONDS) -> Cost:
    """Warm `run` up and time it: one row (free dimensions count as 1) for `seconds`, at least 3 runs.

    `max_rows` above 1 then runs a batch of that many rows once, or of as many as BATCH_SECONDS allow, so that the
    first real batch finds memory and kernels ready. A run that raises is no fault here, since zeros may be
    illegal for the model: a signature that cannot be measured counts as heavy.
    """
    reason = runs_with_zeros(run, signature)  # which pays for first use
    if reason is not None:
        return Cost(None, False, f"not measured: {reason}")
    try:
        p50_us = _p50_us(run, zeros(signature, 1), seconds)
    except _RUN_ERRORS as error:
        return Cost(None, False, f"not measured: a run with zeros failed: {error}")
    return Cost(p50_us, p50_us <= LIGHT_LIMIT_US, _warm_batch(run, signature, max_rows, p50_us))


def _warm_batch(run: Run, signature: Signature, max_rows: int, p50_us: float) -> str | None:
    """Run one batch. Returns what went wrong, if anything did."""
    rows = min(max_rows, int(BATCH_SECONDS * 1e6 / max(p50_us, 1)))
    if rows > 1:
        try:
            run(*zeros(signature, rows))
        except _RUN_ERRORS as error:
            return f"a batch of {rows} rows of zeros failed: {error}"
    return None


def runs_with_zeros(run: Run, signature: Signature, free: int = 1) -> str | None:
    """Why `run` cannot be run on one row of zeros; None if it can."""
    unknown = [spec.name for spec in signature.inputs if spec.shape is None]
    if unknown:
        return f"the rank of input {', '.join(unknown)} is unknown"
    try:
        run(*zeros(signature, 1, free))
    except _RUN_ERRORS as error:
        return f"a run with zeros failed: {error}"
    return None


def zeros(signature: Signature, rows: int, free: int = 1) -> list[np.ndarray]:
    """Aligned feeds of zeros: `rows` rows if the signature is batchable, `free` in every other free dimension."""
    batch = rows if signature.batchable else 1
    return [aligned_zeros(_shape(spec, batch, free), spec.dtype) for spec in signature.inputs]


def _shape(spec: TensorSpec, rows: int, free: int) -> tuple[int, ...]:
    shape = [free if size is None else size for size in spec.shape or ()]
    if shape and spec.shape and spec.shape[0] is None:
        shape[0] = rows
    return tuple(shape)


def _p50_us(run: Run, feeds: Sequence[np.ndarray], seconds: float) -> float:
    taken: list[int] = []
    begun = now = perf_counter_ns()
    until = begun + int(seconds * 1e9)
    while len(taken) < MIN_RUNS or (now < until and len(taken) < MAX_RUNS):
        start = perf_counter_ns()
        run(*feeds)
        now = perf_counter_ns()
        taken.append(now - start)
    return median(taken) / 1000
