"""Whether workers may poll for their answers, and the intake for requests: who else could use the cores, and why not.

A poller takes a core that nobody else wants, or time from somebody. So each that may poll needs one to spare, and the
worker still finds out by trying whether polling is faster there (`worker_client/ipc/waiting.py`).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from worker_client.wire.layout import POLL_FREELY, POLL_GIVING_WAY, POLL_NOT


class Reason(str, Enum):
    """What decides how workers wait, in the words of `onesession top` and of the metric."""

    QUIET = "quiet"
    """There are cores to spare."""
    CROWD = "crowd"
    """More workers call than there are cores, and keep the broker busy."""
    PAUSES = "pauses"
    """More workers call than there are cores, but not all the time."""
    OTHERS = "others"
    """Something else computes."""
    INTERRUPTED = "interrupted"
    """The intake has just lost its core for a time slice."""
    QUOTA = "quota"
    """A control group may use less than the cores: what is polled away is missing later."""


class Leave(NamedTuple):
    """`how` is a POLL_ word of `wire/layout.py`."""

    how: int
    reason: Reason


def leave(active: int, cores: int, *, busy: bool, others: float = 0.0, quota: float | None = None) -> Leave:
    """For `active` workers. `busy`: they keep the intake so. `others`: cores that something else uses. `quota`: what a
    control group allows, in cores, if it does not allow all."""
    if quota is not None and quota < cores and active + 1 > quota:
        return Leave(POLL_NOT, Reason.QUOTA)
    if others:
        spare = active + 1 <= cores - others
        return Leave(POLL_FREELY, Reason.QUIET) if spare else Leave(POLL_NOT, Reason.OTHERS)
    if active <= cores:
        return Leave(POLL_FREELY, Reason.QUIET)
    return Leave(POLL_GIVING_WAY, Reason.CROWD) if busy else Leave(POLL_NOT, Reason.PAUSES)
