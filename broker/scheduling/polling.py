"""Decides whether workers may poll for their answers, and the intake for requests, by who else could use the cores.

A poller uses a spare core, or it takes time from another thread. So each poller needs a spare core, or must yield the
one that it has, and the worker still measures whether polling is faster (`worker_client/ipc/waiting.py`).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from worker_client.wire.layout import POLL_FREELY, POLL_GIVING_WAY, POLL_NOT


class Reason(str, Enum):
    """The reason for how workers wait, as `onesession top` and the metric name it."""

    QUIET = "quiet"
    """There are spare cores."""
    CROWD = "crowd"
    """The workers keep the broker busy, and there is not a core for each of them and one for the broker."""
    PAUSES = "pauses"
    """More workers call than there are cores, but not constantly."""
    OTHERS = "others"
    """Other programs compute."""
    INTERRUPTED = "interrupted"
    """The intake has just lost its core for a time slice."""
    QUOTA = "quota"
    """A control group limits the CPU time: time spent on polling is missing later."""


class Leave(NamedTuple):
    """A decision, for workers and intake alike. `how` is a POLL_ word of `wire/layout.py`."""

    how: int
    reason: Reason


def leave(active: int, cores: int, *, busy: bool, others: float = 0.0, quota: float | None = None) -> Leave:
    """The decision for `active` workers. `busy`: they keep the intake busy. `others`: cores that other programs use.
    `quota`: the limit of a control group in cores, None without a limit."""
    if quota is not None and quota < cores and active + 1 > quota:
        return Leave(POLL_NOT, Reason.QUOTA)
    if others:
        spare = active + 1 <= cores - others
        return Leave(POLL_FREELY, Reason.QUIET) if spare else Leave(POLL_NOT, Reason.OTHERS)
    if active < cores or (active == cores and not busy):
        return Leave(POLL_FREELY, Reason.QUIET)
    return Leave(POLL_GIVING_WAY, Reason.CROWD) if busy else Leave(POLL_NOT, Reason.PAUSES)
