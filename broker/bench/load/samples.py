"""The samples of a window of calls: of each worker, and of all of them together. Pure."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

T = TypeVar("T")
STAGES = ("late", "write", "queue", "wait", "run", "copy", "wake_up", "read")
"""The stages of one call through the broker, end to end: sent later than planned (open loop), claim and write, in
the ring, for its turn and its batch, the model, the outputs into the slot, until the caller saw it, copied out."""


@dataclass
class CallSamples:
    """What one thread of a worker did in a window.

    `taken_ns` has every request of the window: closed loop from its sending, open loop from its planned moment. Of the
    `unsent`, for which there was no time left, it has how long they had waited when the window ended: a lower bound.
    `stages_ns` has the STAGES of some of the calls and the rows of each one's batch, one call after the other.
    """

    taken_ns: array[int] = field(default_factory=lambda: array("q"))
    stages_ns: array[int] = field(default_factory=lambda: array("q"))
    per_s: float = 0.0
    answered: int = 0
    unsent: int = 0
    checked: int = 0
    failures: Counter[str] = field(default_factory=Counter)


@dataclass
class Window:
    """All threads of all workers in one window, or in several after each other. `seconds` are those of the windows."""

    seconds: float
    taken_ns: np.ndarray
    stages_ns: np.ndarray
    """int64 [calls looked at, STAGES and the rows of the batch]."""
    per_s: float
    unsent: int
    checked: int
    failures: Counter[str]
    cpu_s: float
    others: float
    """Cores that anything else kept busy."""

    @classmethod
    def of(cls, samples: Iterable[CallSamples], seconds: float, cpu_s: float, others: float) -> Window:
        samples = list(samples)
        taken = _joined([samples.taken_ns for samples in samples])
        stages = _joined([samples.stages_ns for samples in samples]).reshape(-1, len(STAGES) + 1)
        return cls(
            seconds,
            np.sort(taken),
            stages,
            per_s=sum(samples.per_s for samples in samples),
            unsent=sum(samples.unsent for samples in samples),
            checked=sum(samples.checked for samples in samples),
            failures=sum((samples.failures for samples in samples), Counter()),
            cpu_s=cpu_s,
            others=others,
        )

    @classmethod
    def together(cls, windows: Iterable[Window]) -> Window:
        """Windows of one length as one: their samples joined, their rates and loads averaged."""
        windows = list(windows)
        return cls(
            sum(window.seconds for window in windows),
            np.sort(np.concatenate([window.taken_ns for window in windows])),
            np.concatenate([window.stages_ns for window in windows]),
            per_s=sum(window.per_s for window in windows) / len(windows),
            unsent=sum(window.unsent for window in windows),
            checked=sum(window.checked for window in windows),
            failures=sum((window.failures for window in windows), Counter()),
            cpu_s=sum(window.cpu_s for window in windows),
            others=sum(window.others for window in windows) / len(windows),
        )

    def ns(self, percentile: float) -> float:
        """Latency of nearest rank; 0 of none."""
        if not len(self.taken_ns):
            return 0.0
        return float(nearest_rank(self.taken_ns, percentile))

    @property
    def sent(self) -> float:
        """The share of the planned requests for whose sending there was time."""
        return 1 - self.unsent / len(self.taken_ns) if len(self.taken_ns) else 0.0

    @property
    def stages_us(self) -> dict[str, float]:
        """The mean of each stage over the calls looked at; empty if none was."""
        if not len(self.stages_ns):
            return {}
        return dict(zip(STAGES, self.stages_ns[:, : len(STAGES)].mean(axis=0) / 1000))

    @property
    def batch_rows(self) -> float | None:
        """Rows of the batches that requests ran in, averaged over requests."""
        return float(self.stages_ns[:, -1].mean()) if len(self.stages_ns) else None

    @property
    def cpu_s_per_1000(self) -> float:
        """CPU seconds of broker and workers per thousand answers."""
        answers = self.per_s * self.seconds
        return 1000 * self.cpu_s / answers if answers else 0.0


def nearest_rank(ordered: Sequence[T] | np.ndarray, percentile: float) -> T:
    """The sample of nearest rank. `ordered` ascends and is not empty; `percentile` from 0 to 100."""
    sample: T = ordered[round(percentile / 100 * (len(ordered) - 1))]
    return sample


def _joined(arrays: list[array[int]]) -> np.ndarray:
    return np.concatenate([np.asarray(each, np.int64) for each in arrays] or [np.empty(0, np.int64)])
