"""What the harness times: one worker's call, a flow of answers, or several workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.workloads import Workload


@dataclass(frozen=True)
class Timed:
    """Only `call` is timed; `prepare` goes before it and `read` makes the answer of its result.

    `elapsed_ns` is for an arm that takes the time itself, where a clock around `call` would measure something else.
    """

    call: Callable[[np.ndarray], Any]
    prepare: Callable[[np.ndarray], Any] | None = None
    read: Callable[[Any], np.ndarray] | None = None
    elapsed_ns: Callable[[Any], int] | None = None


Factory = Callable[..., AbstractContextManager[Timed]]
"""`factory(workload, **options)`: the arm, open while its block runs."""

Answers = Iterator[tuple[int, int, int, np.ndarray]]
"""Index of the input, monotonic nanoseconds at its submission and at its answer, the answer."""


@dataclass(frozen=True)
class Flow:
    """Many requests in flight: `answers()` submits inputs and gives each answer as it comes, until it is closed."""

    answers: Callable[[], Answers]


@dataclass(frozen=True)
class ArmWorker:
    """A worker process, which calls in a closed loop: it pauses for about `pause_s`, computes for `work_s`, and calls.

    `open` is called in the process. Workers that are not `counted` only make load for the others.
    """

    open: Callable[[], AbstractContextManager[Timed | Flow]]
    workload: Workload
    pause_s: float = 0.0
    work_s: float = 0.0
    counted: bool = True


def no_batches() -> Mapping[int, int]:
    return {}


@dataclass(frozen=True)
class ArmWorkers:
    """`batches` gives the runs so far by their rows, where that is known; `facts` go into the results as they are."""

    workers: list[ArmWorker]
    batches: Callable[[], Mapping[int, int]] = no_batches
    facts: Mapping[str, Any] = field(default_factory=dict)


WorkersFactory = Callable[..., AbstractContextManager[ArmWorkers]]
"""`factory(workload, workers=n, **options)`: what the workers share is open while its block runs."""
