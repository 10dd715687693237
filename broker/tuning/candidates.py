"""The settings worth trying for a model on this machine. Pure; the list is short because each costs time at a first
start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from broker.models.spec import OFF, ModelSpec
from broker.tuning.setting import RunSetting

FEWEST_FOR_HALF, FEWEST_FOR_QUARTER = 4, 16
"""From this number of processors on, half of them, and a quarter, are tried as the threads of one run."""
MOST_SIZES = 7


@dataclass(frozen=True, slots=True)
class Fixed:
    """The settings fixed by hand, which are not varied; None means free."""

    intra_op_threads: int | None = None
    side_by_side: int | None = None
    caller_thread: bool | None = None
    onednn: bool | None = None

    @classmethod
    def of(cls, spec: ModelSpec, onednn: bool | None) -> Fixed:
        return cls(spec.intra_op_threads, spec.max_concurrency, spec.caller_thread, onednn)

    def to_message(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Processors:
    """Numbers of processors. `visible`: TensorFlow's default number of threads. `usable`: the part that a container's
    quota allows."""

    visible: int
    usable: int


def default_setting(processors: Processors, fixed: Fixed, onednn: bool) -> RunSetting:
    """TensorFlow's default: all processors for each run, in its pool, one run at a time.

    `onednn`: whether this machine's TensorFlow has it on by default.
    """
    return RunSetting(
        onednn=onednn if fixed.onednn is None else fixed.onednn,
        intra_op_threads=fixed.intra_op_threads or processors.visible,
        caller_thread=bool(fixed.caller_thread),
        side_by_side=fixed.side_by_side or 1,
    )


def settings(
    processors: Processors, fixed: Fixed, default: RunSetting, onednn: Sequence[bool]
) -> list[RunSetting]:
    """Every setting worth trying with these values of `onednn`, the default first, each once."""
    found = [default]
    for use_onednn in onednn:
        for threads in thread_counts(processors, fixed):
            for caller_thread in _both(fixed.caller_thread):
                counts = _side_by_side(processors, fixed, threads)
                found += [RunSetting(use_onednn, threads, caller_thread, count) for count in counts]
    return list(dict.fromkeys(found))


def thread_counts(processors: Processors, fixed: Fixed) -> list[int]:
    """Intra-op threads worth trying: one, all, and numbers between on a larger machine."""
    if fixed.intra_op_threads is not None:
        return [fixed.intra_op_threads]
    counts = {1, processors.usable, processors.visible}
    if processors.usable >= FEWEST_FOR_HALF:
        counts.add(processors.usable // 2)
    if processors.usable >= FEWEST_FOR_QUARTER:
        counts.add(processors.usable // 4)
    return sorted(counts)


def _side_by_side(processors: Processors, fixed: Fixed, threads: int) -> list[int]:
    """Concurrent runs: one; as many as give every processor a thread; two if one run already uses all processors."""
    if fixed.side_by_side is not None:
        return [fixed.side_by_side]
    return sorted({1, max(processors.usable // threads, 2 if processors.usable > 1 else 1)})


def _both(fixed: bool | None) -> list[bool]:
    return [False, True] if fixed is None else [fixed]


def batch_sizes(spec: ModelSpec, batchable: bool) -> tuple[int, ...]:
    """Batch sizes worth trying: 1, then powers of two from 4 up to the limit; or the allowed sizes if a list sets them.

    `batchable`: whether its requests will be joined.
    """
    if not batchable or spec.batching == OFF:
        return (1,)
    if spec.allowed_batch_sizes:
        return _thinned(spec.allowed_batch_sizes)
    limit = spec.batch_limit
    sizes = {1, limit, *(1 << power for power in range(2, limit.bit_length()))}
    return _thinned(sorted(size for size in sizes if size <= limit))


def _thinned(sizes: Sequence[int]) -> tuple[int, ...]:
    """At most MOST_SIZES of them, the first and the last among these."""
    if len(sizes) <= MOST_SIZES:
        return tuple(sizes)
    last = len(sizes) - 1
    return tuple(dict.fromkeys(sizes[round(i * last / (MOST_SIZES - 1))] for i in range(MOST_SIZES)))
