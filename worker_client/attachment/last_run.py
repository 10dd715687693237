"""What a slot says about its run after the broker's process died: whether the run began, ran alone, and took too
long."""

from __future__ import annotations

from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import ModelFailed
from worker_client.wire.layout import BESIDE, JOINED, STARTED_NS, SUBMITTED_NS


def began(words: memoryview) -> bool:
    """Whether the request was running, not only waiting, when the process ended."""
    return (words[STARTED_NS] & ~JOINED) >= words[SUBMITTED_NS]


def was_alone(words: memoryview, sequence: int) -> bool:
    """Whether no other request ran at the same time. If several ran, only one is guilty, so they are run again one by
    one."""
    return not words[STARTED_NS] & JOINED and words[BESIDE] != sequence


def without_end(words: memoryview, label: str, limit_seconds: float) -> ModelFailed | None:
    """The error of a call whose run exceeded its limit, so that the process was ended because of this run, or because
    of another one that ran at the same time (`was_alone`)."""
    if not limit_seconds or monotonic_ns() - (words[STARTED_NS] & ~JOINED) < limit_seconds * 1e9:
        return None
    return ModelFailed(
        f"{label}: its run did not end within max_run_seconds ({limit_seconds:g} s), and the broker's process was "
        "ended for it; raise max_run_seconds if it may take that long (0 sets no limit)"
    )
