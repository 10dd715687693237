"""How long to poll before blocking.

Waking a blocked process costs tens of microseconds, polling costs a core. So poll only for about as long as the wait
is expected to take, only where that is short enough for the wake-up to matter, and not at all while there are more
threads to run than cores. A poller that finds itself descheduled has found that out by itself.
"""

from __future__ import annotations

from enum import Enum
from time import monotonic_ns

WORTH_POLLING_NS = 250_000
"""Expected waits longer than this block at once: a wake-up of 40 us is then a small part of them."""

_MARGIN_NS = 20_000
_ALWAYS_NS = 1_000_000_000
_PREEMPTED_NS = 150_000  # a gap between two looks that only a scheduler can make
_PENALTY_NS = 20_000_000
_LOOKS = 16  # looks between two readings of the clock


class WaitMode(str, Enum):
    """`adaptive` is for use; the other two are the arms that benchmarks compare it with."""

    ADAPTIVE = "adaptive"
    POLL = "poll"
    BLOCK = "block"


class PollBudget:
    """Decides the polling budget of one waiting place from the waits that were there before. One thread at a time;
    when threads race, a sample is lost and nothing else."""

    __slots__ = ("_expected_ns", "_no_polling_before_ns", "mode")

    def __init__(self, mode: WaitMode = WaitMode.ADAPTIVE) -> None:
        self.mode = mode
        self._expected_ns = _MARGIN_NS
        self._no_polling_before_ns = 0

    def budget_ns(self, now_ns: int, cores_free: bool) -> int:
        """Nanoseconds to poll from now; 0 means block at once."""
        if self.mode is not WaitMode.ADAPTIVE:
            return _ALWAYS_NS if self.mode is WaitMode.POLL else 0
        if not cores_free or now_ns < self._no_polling_before_ns or self._expected_ns > WORTH_POLLING_NS:
            return 0
        return 2 * self._expected_ns + _MARGIN_NS

    def observe(self, wait_ns: int) -> None:
        """Learn how long a wait took, polled or blocked."""
        sample = min(max(wait_ns, 0), 4 * WORTH_POLLING_NS)
        self._expected_ns += (sample - self._expected_ns) >> 3

    def preempted(self, now_ns: int) -> None:
        """The poller lost its core: others need it more, so stop polling for a while."""
        self._no_polling_before_ns = now_ns + _PENALTY_NS


def poll_word(
    words: memoryview, index: int, value: int, budget: PollBudget, start_ns: int, limit_ns: int
) -> bool:
    """Poll until `words[index]` is `value` (True) or `limit_ns` passes or the core is lost (False).

    What it sees is a hint: the caller still acquires the semaphore that hands the memory over.
    """
    last = start_ns
    while True:
        for _ in range(_LOOKS):
            if words[index] == value:
                return True
        now = monotonic_ns()
        if now >= limit_ns:
            return False
        if now - last > _PREEMPTED_NS and budget.mode is WaitMode.ADAPTIVE:
            budget.preempted(now)
            return False
        last = now
