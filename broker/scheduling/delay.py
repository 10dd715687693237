"""How long a batch waits for more requests, and the cost of a run by its rows: pure code, the clock is passed in."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from broker.scheduling.request import QueuedRequest

_FORGET = 0.95  # the weight of a run halves after 14 others
_MAX_KNOWN = 4096
_FIRST_PAUSE_NS = 50_000_000
_LAST_PAUSE_NS = 10_000_000_000


class RunCost:
    """Fits `duration = fixed + per_row * rows` to recent runs: least squares with decaying weights.

    The model of BentoML's adaptive batching (CorkDispatcher), there over the last 50 batches.
    """

    __slots__ = ("_n", "_nn", "_nt", "_t", "_w", "fixed_ns", "per_row_ns")

    def __init__(self) -> None:
        self._w = self._n = self._t = self._nn = self._nt = 0.0
        self.fixed_ns = 0.0
        self.per_row_ns = 0.0

    def __repr__(self) -> str:
        return f"<RunCost {self.fixed_ns / 1000:.1f} us + {self.per_row_ns / 1000:.2f} us a row>"

    def observe(self, rows: int, duration_ns: int) -> None:
        self._w = self._w * _FORGET + 1
        self._n = self._n * _FORGET + rows
        self._t = self._t * _FORGET + duration_ns
        self._nn = self._nn * _FORGET + rows * rows
        self._nt = self._nt * _FORGET + rows * duration_ns
        spread = self._w * self._nn - self._n * self._n
        if spread < 0.01 * self._n * self._n:  # all of one size: the fixed part is unknown, so assume none
            self.per_row_ns = self._t / self._n if self._n else 0.0
            self.fixed_ns = 0.0 if self._n else self._t / self._w
            return
        self.per_row_ns = max(0.0, (self._w * self._nt - self._n * self._t) / spread)
        self.fixed_ns = max(0.0, (self._t - self.per_row_ns * self._n) / self._w)

    def expect_ns(self, rows: int) -> float:
        return self.fixed_ns + self.per_row_ns * rows


def _last_call(item: QueuedRequest, run_ns: float) -> int:
    """When this request must run at the latest: twice the run's time and a quarter of its timeout before its
    deadline."""
    return item.deadline_ns - int(max(2 * run_ns, (item.deadline_ns - item.taken_ns) / 4))


class FixedDelay:
    """Holds a batch until the oldest request has waited `max_delay`, or the most urgent must run to be answered in
    time."""

    def __init__(self, max_delay_ns: int, cost: RunCost) -> None:
        self._max_delay_ns = max_delay_ns
        self._cost = cost

    def hold_until(self, waiting: Iterable[QueuedRequest], rows: int, now_ns: int) -> int:
        run_ns = self._cost.expect_ns(rows)
        return min(min(item.taken_ns + self._max_delay_ns, _last_call(item, run_ns)) for item in waiting)

    def arrived(self, key: Hashable, now_ns: int) -> None:
        pass

    def answered(self, key: Hashable, now_ns: int) -> None:
        pass

    def ran(self, requests: int, now_ns: int) -> None:
        pass


class AutoDelay:
    """Holds a batch for requests that are about to come, where that pays off.

    A caller that was answered tends to come back after about as long as the last times: from this, `AutoDelay` predicts
    which callers come, and when. Holding n requests for the time d, until k others have come, costs each of the n
    requests d and the run time of the k's rows; it saves each of the k requests the fixed cost of a separate run. The
    batch is held as long as the saving is larger, and never longer than one fixed cost. If no caller is expected, as
    with a single caller, there is no delay.

    After each hold, the result is checked; if the hold did not pay off, there is none for a while, twice as long each
    time.
    """

    def __init__(self, cost: RunCost) -> None:
        self._cost = cost
        self._answered: dict[Hashable, int] = {}  # callers that are away: since when
        self._think: dict[Hashable, tuple[float, float]] = {}  # time away: mean and deviation
        self._held_ns = 0  # since when the next batch is held; 0 if it is not
        self._held_requests = 0
        self._score = 0.0
        self._pause_ns = _FIRST_PAUSE_NS
        self._paused_until_ns = 0

    def __repr__(self) -> str:
        return f"<AutoDelay {self._cost!r}, score {self._score / 1000:.0f} us>"

    def arrived(self, key: Hashable, now_ns: int) -> None:
        """A request of this caller came."""
        since = self._answered.pop(key, None)
        if since is None:
            return
        away = float(now_ns - since)
        if key not in self._think and len(self._think) >= _MAX_KNOWN:
            self._think.clear()
        mean, deviation = self._think.get(key, (away, away / 2))
        error = away - mean
        self._think[key] = mean + error / 4, deviation + (abs(error) - deviation) / 4

    def answered(self, key: Hashable, now_ns: int) -> None:
        """A request of this caller was answered."""
        if len(self._answered) >= _MAX_KNOWN:
            self._answered.clear()
        self._answered[key] = now_ns

    def hold_until(self, waiting: Iterable[QueuedRequest], rows: int, now_ns: int) -> int:
        fixed = self._cost.fixed_ns
        if now_ns < self._paused_until_ns or fixed <= 0:
            return 0
        items = list(waiting)
        run_ns = self._cost.expect_ns(rows)
        latest = min((self._held_ns or now_ns) + fixed, *[_last_call(item, run_ns) for item in items])
        until = self._best(len(items), rows, now_ns, latest)
        if until > now_ns and not self._held_ns:
            self._held_ns, self._held_requests = now_ns, len(items)
        return int(until)

    def _best(self, requests: int, rows: int, now_ns: int, latest_ns: float) -> float:
        """The time until which a hold saves most; 0 if no hold saves anything."""
        per_request = self._cost.per_row_ns * rows / requests
        best, until = 0.0, 0.0
        for others, when in enumerate(self._expected(now_ns, latest_ns), 1):
            saved = others * self._cost.fixed_ns - requests * (when - now_ns + others * per_request)
            if saved > best:
                best, until = saved, when
        return until

    def _expected(self, now_ns: int, latest_ns: float) -> list[float]:
        """When the callers that are away are expected, soonest first, without those that are overdue."""
        times = []
        for key, since in self._answered.items():
            think = self._think.get(key)
            if think is not None:
                when = since + think[0] + think[1]
                if now_ns < when <= latest_ns:
                    times.append(when)
        return sorted(times)

    def ran(self, requests: int, now_ns: int) -> None:
        """A batch of `requests` requests begins to run: check whether holding it paid off."""
        if not self._held_ns:
            return
        waited, self._held_ns = now_ns - self._held_ns, 0
        gain = (requests - self._held_requests) * self._cost.fixed_ns - self._held_requests * waited
        self._score += (gain - self._score) / 8
        if self._score < 0:
            self._paused_until_ns = now_ns + self._pause_ns
            self._pause_ns = min(2 * self._pause_ns, _LAST_PAUSE_NS)
            self._score = 0.0
        elif gain > 0:
            self._pause_ns = max(_FIRST_PAUSE_NS, self._pause_ns // 2)


DelayPolicy = FixedDelay | AutoDelay
