"""Decides how workers may poll, from the load of other programs, CPU quotas and lost processors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.host.neighbours import Neighbours
from broker.host.processors import usable
from broker.host.quota import QuotaWatch
from broker.scheduling.polling import Leave, Reason, leave
from worker_client.ipc.waiting import PollBudget, WaitMode
from worker_client.system.clock import monotonic_ns, thread_time_ns
from worker_client.wire.layout import POLL_FREELY, POLL_GIVING_WAY, POLL_NOT

NAMES = {POLL_FREELY: "freely", POLL_GIVING_WAY: "yielding", POLL_NOT: "no"}


class Polling:
    """The current decision. The intake thread decides, the control thread samples the quota, any thread may read.
    `budget` counts lost polls."""

    def __init__(self, budget: PollBudget) -> None:
        processors = usable()
        self._cores = len(processors)
        self._budget = budget
        self._neighbours = Neighbours(processors)
        self._quota = QuotaWatch()
        self._leave = Leave(POLL_FREELY, Reason.QUIET)
        self.sample_quota()

    @property
    def how(self) -> int:
        """The decision as a POLL_ word of `wire/layout.py`, for workers and intake."""
        return self._leave.how

    def sample_quota(self) -> None:
        self._quota.sample(monotonic_ns() / 1e9)

    def judge(self, callers: Sequence[int], workers: Sequence[int], busy: bool, now: int) -> bool:
        """Decide again; whether the decision has changed. `callers` are the processes of `workers` that make calls."""
        if now > self._neighbours.due_ns:
            self._neighbours.sample(now, thread_time_ns(), callers, workers)
        before, self._leave = self._leave, self._judged(len(callers), busy, now)
        return self._leave.how != before.how

    def _judged(self, active: int, busy: bool, now: int) -> Leave:
        if self._budget.mode is not WaitMode.ADAPTIVE:
            return leave(active, self._cores, busy=busy)
        if now < self._budget.losses.until_ns:
            return Leave(POLL_NOT, Reason.INTERRUPTED)
        others = self._neighbours.cores if self._neighbours.crowded else 0.0
        return leave(active, self._cores, busy=busy, others=others, quota=self._quota.processors)

    def message(self) -> dict[str, Any]:
        """How workers may wait for their answers, why, and the measured values behind it."""
        return {
            "polling": NAMES[self._leave.how],
            "reason": self._leave.reason.value,
            "busy_neighbours": round(self._neighbours.cores, 2),
            "cores": self._cores,
            "quota": self._quota.processors,
            "throttled_seconds": round(self._quota.throttled_s, 3),
        }
