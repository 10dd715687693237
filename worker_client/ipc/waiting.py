"""How long to poll before blocking.

Waking a blocked process costs tens of microseconds if its core sleeps; polling costs a core. On a quiet machine polling
is several times faster. If the two processes share a core, blocking is faster, because each poll keeps the other side
from running. No formula tells which is the case. Only the worker sees the whole latency of a call, so it tries both,
keeps the better one (`PollOrBlock`), and reports its choice to the broker with each request. The broker then decides
whether to poll for the next request (`PollBudget`).

While the workers keep the broker busy, and there is no core for each of them and one for the broker, the machine is
oversubscribed: a worker may poll and yield the processor between two checks (`poll_giving_way`). The others run
meanwhile, and the broker saves the system call that wakes the worker, the most expensive part of an answer. If they do
not keep it busy, and are more than the cores, none polls. Everyone benefits, but a worker that yields benefits least,
because a worker that blocks among them is served first. So a worker goes on polling unless blocking is four times as
fast for itself, for example because another program does not release the processor that the worker yielded to it.
"""

from __future__ import annotations

from enum import Enum

from worker_client.system.clock import monotonic_ns
from worker_client.system.interruptions import Interruptions
from worker_client.system.processor import give_way

WORTH_POLLING_NS = 250_000
"""Waits longer than this block at once: a wake-up of 40 us is then a small part of them. If oversubscribed four times
as much: the others run meanwhile, and an answer takes longer the more of them there are."""
_TRIED = 3
"""If blocking takes up to this many times as long, polling is tried all the same: on a virtual machine most of it may
be the wake-up of a processor that the host has taken away."""

_MARGIN_NS = 20_000
_PATIENCE_NS = 200_000
"""How long to poll beyond the expected time: as long as the wake-up takes that blocking would need, from 40 us to 200
us on virtual machines. Giving up earlier costs more than it saves."""
_ALWAYS_NS = 1_000_000_000
_CHECKS = 16  # checks between two readings of the clock

_TRIAL_CALLS = 16
_SETTLING_CALLS = 4  # after each switch, not counted: the other side follows one call later
_COUNTED_CALLS = _TRIAL_CALLS - _SETTLING_CALLS
_FIRST_INTERVAL = 32
_LAST_INTERVAL = 8192
_PAUSE_NS = 100_000_000  # after a pause this long the load of the machine may have changed
_PAUSE_INTERVAL = 128
_CLIP_NS = 4 * WORTH_POLLING_NS
_SHARED_GAIN = 2
"""A shift: if oversubscribed, the latency of polling counts a quarter, and limits are four times as long."""

LOST_NS = 500_000
"""A poller reads its clock every few microseconds, and pollers that yield to each other within some hundred. If the
clock jumps by more, the poller has lost its processor to another process: time slices begin at 0.7 ms."""
_HOST_NS = 10_000_000
"""A busy host takes a virtual machine's processor for less. If it takes it for longer, it limits the machine's time,
and polling would use that up."""
_SOON_NS = 20_000_000
"""Pollers lose their processors some times a second to threads that run for a moment only, but to a program that
computes all the time once in a time slice."""
_PAUSE_SHIFT = 3  # a poller that lost its processor blocks for 8 times as long
_MOST_SHIFT = 12
_LONGEST_PAUSE_NS = 5_000_000_000


class WaitMode(str, Enum):
    """How a call waits. `adaptive` is for use; the other two are the alternatives that benchmarks compare it with."""

    ADAPTIVE = "adaptive"
    POLL = "poll"
    BLOCK = "block"


class Losses:
    """How long not to poll after polls that lost their processor: for long, or twice in short time to other threads.

    The pause is 8 times what was lost, and doubles if the next loss comes before polling went well for as long.
    """

    __slots__ = ("_latest_ns", "_shift", "_trusted_ns", "interruptions", "until_ns")

    def __init__(self) -> None:
        self.interruptions = Interruptions()
        """Of the thread that polls, which marks them now and then."""
        self.until_ns = 0
        self._latest_ns = self._trusted_ns = 0
        self._shift = _PAUSE_SHIFT

    def __repr__(self) -> str:
        return f"<Losses, no polling until {self.until_ns}>"

    def add(self, lost_ns: int, now_ns: int) -> None:
        if lost_ns < _HOST_NS:
            if not self.interruptions.happened(now_ns):
                return
            before, self._latest_ns = self._latest_ns, now_ns
            if now_ns - before > _SOON_NS and now_ns >= self._trusted_ns:
                return
        self._shift = min(self._shift + 1, _MOST_SHIFT) if now_ns < self._trusted_ns else _PAUSE_SHIFT
        pause_ns = min(lost_ns << self._shift, _LONGEST_PAUSE_NS)
        self.until_ns = now_ns + pause_ns
        self._trusted_ns = self.until_ns + pause_ns


class PollOrBlock:
    """The worker's choice, revised from measured latencies: a two-armed bandit with increasingly rare trials.

    `poll_ns` is how long to poll for the next answer; 0 means block at once. After every `interval` calls the other way
    is tried for a few calls. It is kept if it was clearly faster on average; otherwise the interval doubles. If the
    latency doubles meanwhile, a trial begins at once. One thread at a time uses it; when threads race, a sample is
    lost.
    """

    __slots__ = (
        "_adaptive",
        "_alarm_ns",
        "_clip_ns",
        "_gain",
        "_interval",
        "_last_ns",
        "_left",
        "_losses",
        "_mean_ns",
        "_polling",
        "_settling",
        "_total_ns",
        "_trial",
        "_worth_ns",
        "oversubscribed",
        "poll_ns",
    )

    def __init__(
        self, mode: WaitMode = WaitMode.ADAPTIVE, oversubscribed: bool = False, losses: Losses | None = None
    ) -> None:
        """`losses` may be shared with others that wait on the same processors."""
        self.oversubscribed = oversubscribed  # a worker that polls must yield
        self._losses = losses or Losses()
        self._gain = _SHARED_GAIN if oversubscribed else 0
        self._worth_ns = WORTH_POLLING_NS << self._gain
        self._adaptive = mode is WaitMode.ADAPTIVE
        self._polling = mode is not WaitMode.BLOCK
        self._mean_ns = _MARGIN_NS
        self._alarm_ns = self._clip_ns = _CLIP_NS
        self._total_ns = 0
        self._last_ns = 0
        self._trial = False
        self._settling = 0
        self._interval = self._left = _FIRST_INTERVAL
        self.poll_ns = 0
        self._set_poll_ns()

    def __repr__(self) -> str:
        return (
            f"<PollOrBlock {'polling' if self._polling else 'blocking'}, mean {self._mean_ns / 1000:.1f} us>"
        )

    @property
    def begins_to_poll(self) -> bool:
        """Whether it blocked until a few calls ago: the two sides may still share a processor."""
        return self._polling and self._settling > 0

    def observe(self, latency_ns: int, now_ns: int) -> None:
        """Learn how long the last call took, from its submission to its answer at `now_ns`."""
        if not self._adaptive:
            return
        if now_ns - self._last_ns > _PAUSE_NS:
            self._interval = min(self._interval, _PAUSE_INTERVAL)
            self._left = min(self._left, _PAUSE_INTERVAL)
        self._last_ns = now_ns
        self._left -= 1
        if now_ns < self._losses.until_ns:
            self._block(latency_ns)
            return
        if self._settling:
            self._settling -= 1
            return
        if self._polling:
            latency_ns >>= self._gain
            if now_ns > self._losses.interruptions.due_ns:
                self._losses.interruptions.mark(now_ns)
        sample = latency_ns if latency_ns < self._clip_ns else self._clip_ns  # noqa: FURB136 - min() is a call
        if self._trial:
            self._count(sample)
        else:
            self._mean_ns += (sample - self._mean_ns) >> 4
            if self._mean_ns > self._alarm_ns:
                self._mean_ns = (
                    self._clip_ns
                )  # it takes many samples to get here, and the mean lags behind them
                self._begin_trial()
            elif not self._left:
                self._begin_trial()

    def _count(self, sample: int) -> None:
        self._total_ns += sample
        if not self._left or self._total_ns > _COUNTED_CALLS * self._mean_ns:  # it can no longer win
            self._end_trial()

    def lost(self, lost_ns: int, now_ns: int) -> None:
        """Note that a poll ended `lost_ns` late. Its processor was taken from it, unless those it yields to may take as
        long. `observe` must follow."""
        if self._adaptive and lost_ns > LOST_NS << self._gain:
            self._losses.add(lost_ns, now_ns)

    def _block(self, latency_ns: int) -> None:
        """Learn how long blocking takes, for the trial of polling that follows once polling is allowed again."""
        if self._polling:
            self._polling = self._trial = False
            self._interval = _FIRST_INTERVAL
            self._settling = _SETTLING_CALLS
            self._expect(self._latency_ns(self._mean_ns))
            self._set_poll_ns()
        elif self._settling:
            self._settling -= 1
        else:
            self._expect(self._mean_ns + ((min(latency_ns, self._clip_ns) - self._mean_ns) >> 4))
        self._left = 1

    def _begin_trial(self) -> None:
        if not self._polling and self._mean_ns > _TRIED * self._worth_ns:
            self._settle(self._mean_ns)
            return
        self._trial = True
        self._left = _TRIAL_CALLS
        self._total_ns = 0
        self._switch()

    def _end_trial(self) -> None:
        self._trial = False
        mean = self._total_ns // _COUNTED_CALLS
        worth = not self._polling or self._latency_ns(mean) <= self._worth_ns
        if worth and mean < self._mean_ns - (self._mean_ns >> 4):
            self._interval = _FIRST_INTERVAL
            self._settle(mean)
        else:
            self._switch()
            self._interval = min(2 * self._interval, _LAST_INTERVAL)
            self._settle(self._mean_ns)

    def _settle(self, mean_ns: int) -> None:
        if self._polling and self._latency_ns(mean_ns) > self._worth_ns:
            self._polling = False
            mean_ns = self._latency_ns(mean_ns)
            self._interval = _FIRST_INTERVAL
        self._expect(mean_ns)
        self._left = self._interval
        self._set_poll_ns()

    def _expect(self, mean_ns: int) -> None:
        self._mean_ns = mean_ns
        most_ns = WORTH_POLLING_NS if self._polling else 2 * mean_ns
        self._alarm_ns = min(2 * mean_ns, most_ns) + _MARGIN_NS
        self._clip_ns = min(4 * mean_ns + 2 * _MARGIN_NS, _CLIP_NS)  # a single outlier decides nothing

    def _switch(self) -> None:
        self._polling = not self._polling
        if self._polling:
            self._losses.interruptions.mark(self._last_ns)
        self._settling = _SETTLING_CALLS
        self._set_poll_ns()

    def _set_poll_ns(self) -> None:
        """Set the polling time: long enough for a usual answer, so that an unsuccessful poll stays cheap."""
        if not self._adaptive:
            self.poll_ns = _ALWAYS_NS if self._polling else 0
        else:
            self.poll_ns = 2 * self._latency_ns(self._mean_ns) + _PATIENCE_NS if self._polling else 0

    def _latency_ns(self, mean_ns: int) -> int:
        """The latency that the weighted mean `mean_ns` of polling stands for."""
        return mean_ns << self._gain


class PollBudget:
    """How long the broker polls for the next request, computed from how long it waited for the last ones."""

    __slots__ = ("_expected_ns", "losses", "mode")

    def __init__(self, mode: WaitMode = WaitMode.ADAPTIVE) -> None:
        self.mode = mode
        self.losses = Losses()
        self._expected_ns = _MARGIN_NS

    def budget_ns(self, wanted: bool) -> int:
        """Nanoseconds to poll; 0 means block at once. `wanted`: the last worker polls, and there are enough cores."""
        if self.mode is not WaitMode.ADAPTIVE:
            return _ALWAYS_NS if self.mode is WaitMode.POLL else 0
        if not wanted or self._expected_ns > WORTH_POLLING_NS:
            return 0
        return 2 * self._expected_ns + _PATIENCE_NS

    def lost(self, lost_ns: int, now_ns: int) -> None:
        """Note that the broker was off its processor `lost_ns` longer than expected while it polled or yielded."""
        if lost_ns > LOST_NS and self.mode is WaitMode.ADAPTIVE:
            self.losses.add(lost_ns, now_ns)

    def observe(self, wait_ns: int) -> None:
        """Learn how long a wait took, polled or blocked."""
        sample = min(max(wait_ns, 0), _CLIP_NS)
        self._expected_ns += (sample - self._expected_ns) >> 3


def poll_word(words: memoryview, index: int, value: int, limit_ns: int) -> int:
    """Poll until `words[index]` is `value` (returns 0) or CLOCK_MONOTONIC passes `limit_ns` (returns its reading).

    The value is only a hint: the caller must still acquire the semaphore that hands the memory over.
    """
    while True:
        for _ in range(_CHECKS):
            if words[index] == value:
                return 0
        if (now := monotonic_ns()) >= limit_ns:
            return now


def poll_giving_way(words: memoryview, index: int, value: int, limit_ns: int) -> int:
    """`poll_word` for oversubscribed processors: it yields to other processes and to other threads of this process."""
    while words[index] != value:
        if (now := monotonic_ns()) >= limit_ns:
            return now
        give_way()
    return 0
