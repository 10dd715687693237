"""When a case has been measured for long enough. Pure.

The rule of Triton's perf_analyzer (`inference_profiler.cc`, DetermineStability; docs/measurements_metrics.md): the last
three windows have answers, and neither their throughput nor their latency differs by more than a share from the lowest
to the highest. The report has those three together, and says where the windows never agreed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

WINDOWS = 3


class WindowLevel(NamedTuple):
    """The values that have to agree from one window to the next. Latency at the chosen percentile, in nanoseconds."""

    per_s: float
    latency_ns: float


def stable(levels: Sequence[Sequence[float]], within: float) -> bool:
    """Whether the last three are within the share `within` of each other, in every figure that a level has."""
    last = levels[-WINDOWS:]
    return len(last) == WINDOWS and all(agree(values, within) for values in zip(*last))


def agree(values: Sequence[float], within: float) -> bool:
    """The highest is at most `within` above the lowest. Values of nothing agree with nothing."""
    return min(values) > 0 and max(values) / min(values) <= 1 + within
