"""Runs models for the first time, with examples or zeros: callers do not pay for first use, and heavy models are
found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from statistics import median

import numpy as np

from broker.counters.counted import counted
from broker.models.aligned import aligned_zeros
from broker.models.examples import Feeds, aligned, with_rows
from broker.models.model import Run
from worker_client.system.clock import perf_counter_ns
from worker_client.wire.errors import BrokerError
from worker_client.wire.signature import Signature, TensorSpec

LIGHT_LIMIT_US = 500
"""A signature whose one-row run takes no longer than this may run on the intake thread."""
LONGEST_LIGHT_US = 5000
"""The limit for all other runs at warm-up of a light signature: examples, batches, larger free sizes."""

MEASURE_SECONDS = 0.3
BATCH_SECONDS = 0.5
"""Maximum time of the largest batch at warm-up, estimated from one row: a heavier model gets a smaller batch."""
QUICK_SECONDS = 0.01
"""A shorter batch is run repeatedly for this time, because the time of a single run is not reliable."""
MIN_RUNS = 3
MAX_RUNS = 200

FREE_SIZES = (64, 1)
"""The sizes of free dimensions other than the rows when speeds are compared: some length, or else the smallest."""

LARGER_FREE_SIZES = (16, 64, 256)
"""Further sizes to try for free inner dimensions while the runs are light, because requests have any size."""
MOST_LARGER_BYTES = 4 << 20
"""Maximum elements of such an input: several free dimensions multiply, and intermediate results may be many times
larger."""
EXAMPLES_SECONDS = 0.5

_RUN_ERRORS = (BrokerError, MemoryError)


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one row of a signature. `note` describes a failure; `p50_us` is None if the row failed.

    `light`: no run took long. `unlike` is the reason why requests may differ from these runs, so that their own runs
    must show whether they are light. `batches` are the sizes of batches that were run, each with its microseconds.
    """

    p50_us: float | None
    light: bool
    note: str | None = None
    batches: tuple[tuple[int, float], ...] = ()
    unlike: str = ""


def measure(
    run: Run,
    signature: Signature,
    max_rows: int = 1,
    seconds: float = MEASURE_SECONDS,
    *,
    sizes: Sequence[int] = (),
    examples: Sequence[Feeds] = (),
    apart: bool = False,
    larger: bool = True,
) -> Cost:
    """Warm `run` up and time it: all `examples`, then one row for `seconds`, at least 3 runs, then batches.

    The row is the first of the first example that works, else zeros (free dimensions count as 1). Batches of all
    `sizes` are run, so that the first real one finds memory, kernels and compiled code ready. Without `sizes` it is one
    of `max_rows`, or of as many as BATCH_SECONDS allow. Where zeros stand for an example, free dimensions are tried
    with larger sizes, too, the first one as well where requests run `apart`; without `larger` they are not, which is
    for models that are compiled for each. A run that raises is not an error here, because zeros may be invalid input
    for the model: a signature that cannot be measured counts as heavy.
    """
    good, failed = _run_all(run, examples)
    example = good[0] if good else None
    if example is None:
        reason = runs_with_zeros(run, signature)  # includes the cost of first use
        if reason is not None:
            return Cost(None, False, _joined(failed, f"not measured: {reason}"))
    try:
        p50_us = _p50_us(run, feeds_of(signature, 1, example=example), seconds)
    except _RUN_ERRORS as error:
        what = "zeros" if example is None else "the example"
        return Cost(None, False, _joined(failed, f"not measured: a run with {what} failed: {error}"))
    tried = sizes or [min(max_rows, int(BATCH_SECONDS * 1e6 / max(p50_us, 1)))]
    batches, problem = _warm_batches(run, signature, [rows for rows in tried if rows > 1], example)
    if p50_us > LIGHT_LIMIT_US or any(us > LONGEST_LIGHT_US for _, us in batches):
        return Cost(p50_us, False, _joined(failed, problem), batches)
    longest_us, unlike = _slowest(run, good) if good else (0.0, "")
    if not good and larger:
        longest_us, unlike = _with_larger_sizes(run, signature, apart)
    return Cost(p50_us, longest_us <= LONGEST_LIGHT_US, _joined(failed, problem), batches, unlike)


def _slowest(run: Run, examples: Sequence[Feeds]) -> tuple[float, str]:
    """The time of the slowest example, of those for which there is time; all have run before."""
    longest_us = 0.0
    until = perf_counter_ns() + int(EXAMPLES_SECONDS * 1e9)
    for feeds in examples:
        try:
            us = _timed_us(run, feeds)
            if us > LONGEST_LIGHT_US:  # a single slow run may be a coincidence
                us = min(us, _timed_us(run, feeds))
        except _RUN_ERRORS as error:
            return longest_us, f"an example failed at its second run: {error}"
        longest_us = max(longest_us, us)
        if longest_us > LONGEST_LIGHT_US or perf_counter_ns() > until:
            break
    return longest_us, ""


def _with_larger_sizes(run: Run, signature: Signature, apart: bool) -> tuple[float, str]:
    """The time of zeros with larger free dimensions, and why requests may still differ from them."""
    if signature.takes_strings:
        return 0.0, "only empty strings were run"
    rows_are_free = apart or not signature.batchable
    longest_us, tried, ran = 0.0, 0, 0
    for free in LARGER_FREE_SIZES:
        shapes = [_shape(spec, free if rows_are_free else 1, free) for spec in signature.inputs]
        if not _are_new(signature, shapes):
            break
        feeds = zeros(signature, free if rows_are_free else 1, free)
        tried += 1
        try:
            run(*feeds)
            longest_us = max(longest_us, min(_timed_us(run, feeds), _timed_us(run, feeds)))
        except _RUN_ERRORS:  # requests cannot have this size either
            continue
        ran += 1
        if longest_us > LONGEST_LIGHT_US:
            break
    return longest_us, "only free dimensions of 1 could be run" if tried and not ran else ""


def _are_new(signature: Signature, shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether these input shapes differ from those with free dimensions of 1, and are not too large."""
    given = [(spec, shape) for spec, shape in zip(signature.inputs, shapes) if spec.default is None]
    if all(shape == _shape(spec, 1, 1) for spec, shape in given):
        return False
    return max(prod(shape) * spec.dtype.itemsize for spec, shape in given) <= MOST_LARGER_BYTES


def _run_all(run: Run, examples: Sequence[Feeds]) -> tuple[list[Feeds], str | None]:
    """The examples that work, and the problem of the first one that does not."""
    good: list[Feeds] = []
    problem: str | None = None
    for number, feeds in enumerate(examples, 1):
        try:
            run(*feeds)
            good.append(feeds)
        except _RUN_ERRORS as error:
            problem = problem or f"example {number} of {len(examples)} failed: {error}"
    return good, problem


def _warm_batches(
    run: Run, signature: Signature, sizes: Sequence[int], example: Feeds | None
) -> tuple[tuple[tuple[int, float], ...], str | None]:
    """Run a batch of each size, and again to time it. Returns the time of each, and the failure, if any."""
    taken: list[tuple[int, float]] = []
    for rows in sizes:
        feeds = feeds_of(signature, rows, example=example)
        try:
            us = _timed_us(run, feeds)
            if us < QUICK_SECONDS * 1e6:
                us = _p50_us(run, feeds, QUICK_SECONDS)
            elif us < BATCH_SECONDS * 1e6:
                us = _timed_us(run, feeds)
        except _RUN_ERRORS as error:
            what = "zeros" if example is None else "examples"
            return tuple(taken), f"a batch of {counted(rows, 'row')} of {what} failed: {error}"
        taken.append((rows, us))
    return tuple(taken), None


def _joined(*notes: str | None) -> str | None:
    return "; ".join(note for note in notes if note) or None


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


def feeds_of(
    signature: Signature, rows: int, free: int = 1, example: Feeds | None = None
) -> Sequence[np.ndarray]:
    """`rows` rows of the example, or of zeros."""
    return zeros(signature, rows, free) if example is None else with_rows(signature, example, rows)


def zeros(signature: Signature, rows: int, free: int = 1) -> list[np.ndarray]:
    """Aligned feeds of zeros: `rows` rows if the signature is batchable, `free` in every other free dimension. Inputs
    that have a default get it, with as many rows."""
    batch = rows if signature.batchable else free
    feeds = tuple(
        aligned_zeros(_shape(spec, batch, free), spec.dtype)
        if spec.default is None
        else aligned(spec.default.array(spec.dtype))
        for spec in signature.inputs
    )
    return list(with_rows(signature, feeds, batch))


def _shape(spec: TensorSpec, rows: int, free: int) -> tuple[int, ...]:
    shape = [free if size is None else size for size in spec.shape or ()]
    if shape and spec.shape and spec.shape[0] is None:
        shape[0] = rows
    return tuple(shape)


def _p50_us(run: Run, feeds: Sequence[np.ndarray], seconds: float) -> float:
    taken: list[float] = []
    until = perf_counter_ns() + int(seconds * 1e9)
    while len(taken) < MIN_RUNS or (perf_counter_ns() < until and len(taken) < MAX_RUNS):
        taken.append(_timed_us(run, feeds))
    return median(taken)


def _timed_us(run: Run, feeds: Sequence[np.ndarray]) -> float:
    start = perf_counter_ns()
    run(*feeds)
    return (perf_counter_ns() - start) / 1000
