"""Decides in which order settings are measured, and which drop out. Pure: it only calls `measure`.

1. latency     every setting, one request at a time, in interleaved rounds
2. throughput  those that may still be chosen by their latency, alone and concurrently, at growing batch sizes;
               settings far behind that do not catch up drop out, and sizes end where they gain nothing
3. again       the default and the front runners, first at the sizes where they are best, until each was measured ROUNDS
               times or time is up

Rounds are interleaved (A B A B, not A A B B), so that a noisy minute of the machine affects all settings equally. The
default comes first, so that a comparison is possible even with little time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broker.models.warmup import LIGHT_LIMIT_US
from broker.tuning.setting import NOISE_MOST, RunSetting, Sample, SampleTable

ROUNDS = 3
VISITS = 250
"""The time of one visit as a share of the total time, unless its runs take longer."""
LATENCY_SHARE = 0.3
THROUGHPUT_SHARE = 0.7
"""The shares of the time at which the first and the second phase end."""
LEAST_RUNS = 3
LEAST_LONG_RUNS = 2
LONG_RUN_SECONDS = 0.05
"""Runs longer than this are measured LEAST_LONG_RUNS times per visit."""
FRONT_RUNNERS = 3
TOO_SLOW = 1 + NOISE_MOST
"""A multiple of the default's p50: slower settings are never chosen (choice.py)."""
FAR_BEHIND = 0.7
"""A share of the leader's rows per second with the same value of oneDNN, because other models may decide about that."""
CATCHING_UP = 1.1
GAIN = 1.03
"""A larger batch with less than this multiple of the rows per second gains nothing; after two such sizes no larger one
is tried."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit: run `setting` with batches of `rows` for `seconds`, each concurrent run at least `least_runs` times."""

    setting: RunSetting
    rows: int
    seconds: float
    least_runs: int


@dataclass(frozen=True, slots=True)
class RaceProgress:
    done: int
    planned: int
    seconds_left: float


class Race:
    """The race. `measure` returns the sample of a visit, or None if the setting cannot be measured, which is then left
    out.

    `first_us` is the approximate time of a run of the smallest size.
    """

    def __init__(
        self,
        settings: Sequence[RunSetting],
        default: RunSetting,
        sizes: tuple[int, ...],
        seconds: float,
        measure: Callable[[Visit], Sample | None],
        on_progress: Callable[[RaceProgress], None] = lambda _: None,
        first_us: float = 0.0,
    ) -> None:
        self.table = SampleTable(default, sizes)
        self.complete = True
        """False once a visit was left out because time was short."""
        self._settings = list(settings)
        self._seconds = seconds
        self._spent = 0.0
        self._first_us = first_us
        self._measure = measure
        self._on_progress = on_progress
        self._out: set[RunSetting] = set()
        self._done = 0
        self._planned = 0

    def run(self) -> SampleTable:
        self._latency()
        finalists = self._finalists()
        self._throughput(finalists)
        self._again(finalists)
        return self.table

    # -- phases --------------------------------------------------------------------------------------------------

    def _latency(self) -> None:
        alone = list(dict.fromkeys(setting.alone for setting in (self.table.default, *self._settings)))
        self._replan(ROUNDS * len(alone) + len(self._settings) // 2 * len(self.table.sizes))
        for number in range(ROUNDS):
            for setting in alone:
                if number == 0 or self._in_time(LATENCY_SHARE):
                    self._visit(setting, self.table.sizes[0])

    def _finalists(self) -> list[RunSetting]:
        """The default; for each number of threads the faster place alone, and the caller's thread with concurrent runs.

        Only models that are too heavy to run inline ever run concurrently, so others are not tried that way.
        """
        latency = {s: p50_us for s in self._settings if (p50_us := self.table.p50_us(s)) is not None}
        if self.table.default not in latency:
            return []
        light = min(latency.values()) <= LIGHT_LIMIT_US
        groups: dict[tuple[bool, int], list[RunSetting]] = {}
        for setting, p50_us in latency.items():
            if p50_us <= TOO_SLOW * latency[self.table.default]:
                groups.setdefault((setting.onednn, setting.intra_op_threads), []).append(setting)
        found = [self.table.default]
        for group in groups.values():
            quickest = min(group, key=lambda s: (latency[s], not s.caller_thread))
            fewest = min(setting.side_by_side for setting in group)
            for setting in group:
                if setting.side_by_side == fewest:
                    taken = setting.caller_thread == quickest.caller_thread
                else:
                    taken = not light and setting.caller_thread == max(s.caller_thread for s in group)
                if taken:
                    found.append(setting)
        return list(dict.fromkeys(found))

    def _throughput(self, finalists: Sequence[RunSetting]) -> None:
        running = list(finalists)
        shares: dict[RunSetting, float] = {}
        for index, rows in enumerate(self.table.sizes):
            self._replan(len(running) * (len(self.table.sizes) - index))
            for setting in running:
                # Single runs of the first size were measured in the first phase.
                if not self.table.of(setting, rows) and self._in_time(THROUGHPUT_SHARE):
                    self._visit(setting, rows)
            before, shares = shares, self._shares(running, rows)
            running = [s for s in running if self._goes_on(s, shares.get(s), before.get(s))]

    def _shares(self, settings: Sequence[RunSetting], rows: int) -> dict[RunSetting, float]:
        """Rows per second at this size, as a share of the leader's with the same value of oneDNN."""
        rates = {s: rate for s in settings if (rate := self.table.rates(s).get(rows)) is not None}
        return {
            s: rate / max(other for o, other in rates.items() if o.onednn == s.onednn)
            for s, rate in rates.items()
        }

    def _goes_on(self, setting: RunSetting, share: float | None, before: float | None) -> bool:
        """Whether to try the next larger size: unless it is far behind, or its last two sizes gained nothing."""
        if share is None:
            return False
        behind = before is not None and share < FAR_BEHIND and share < CATCHING_UP * before
        if behind and setting != self.table.default:
            return False
        rates = list(self.table.rates(setting).values())
        return len(rates) <= 2 or max(rates[-2:]) >= GAIN * max(rates[:-2])

    def _again(self, finalists: Sequence[RunSetting]) -> None:
        visits = []
        for setting in self._front_runners(finalists):
            rates = self.table.rates(setting)
            best_first = sorted(rates, key=rates.__getitem__, reverse=True)
            visits += [(place, setting, rows) for place, rows in enumerate(best_first)]
        visits.sort(key=lambda visit: visit[0])
        self._replan(len(visits) * (ROUNDS - 1))
        for number in range(1, ROUNDS):
            for _, setting, rows in visits:
                if len(self.table.of(setting, rows)) <= number:
                    self._visit(setting, rows)

    def _front_runners(self, finalists: Sequence[RunSetting]) -> list[RunSetting]:
        """The default, the best few by rows per second, and the best for each value of oneDNN."""
        known = sorted((s for s in finalists if self.table.rates(s)), key=self.table.best_rate, reverse=True)
        of_each = [next((s for s in known if s.onednn == onednn), None) for onednn in (True, False)]
        chosen = [self.table.default, *known[:FRONT_RUNNERS], *of_each]
        return [s for s in dict.fromkeys(chosen) if s is not None and s in known]

    def _in_time(self, share: float) -> bool:
        if self._spent < self._seconds * share:
            return True
        self.complete = False
        return False

    # -- visits --------------------------------------------------------------------------------------------------

    def _visit(self, setting: RunSetting, rows: int) -> None:
        """Measure the setting once more, unless it has dropped out or that would take more time than is left."""
        run_seconds = self._run_seconds(setting, rows)
        runs = LEAST_LONG_RUNS if run_seconds > LONG_RUN_SECONDS else LEAST_RUNS
        first = not self.table.of(setting, rows)  # the first visit has one more run, for warm-up
        if setting in self._out:
            return
        if (runs + first) * run_seconds > self._seconds - self._spent:
            self.complete = False
            return
        sample = self._measure(Visit(setting, rows, self._seconds / VISITS, runs))
        if sample is None:
            self._out.add(setting)
            return
        self._spent += sample.seconds
        self._done += 1
        self.table.add(setting, rows, sample)
        left = max(self._seconds - self._spent, 0.0)
        in_time = round(left * self._done / self._spent) if self._spent else self._planned
        planned = max(self._done, min(self._planned, self._done + in_time))
        self._on_progress(RaceProgress(self._done, planned, left))

    def _run_seconds(self, setting: RunSetting, rows: int) -> float:
        """The estimated time of a run, from the largest batch measured with this setting or a similar one."""
        for known in (setting, setting.alone, self.table.default.alone):
            seen = self.table.samples.get(known)
            if seen:
                size = max(seen)
                return seen[size][-1].p50_us / 1e6 * max(rows / size, 1.0)
        return self._first_us / 1e6

    def _replan(self, visits: int) -> None:
        """Update the number of remaining visits: `visits`, and those of the last phase."""
        again = (ROUNDS - 1) * (FRONT_RUNNERS + 1) * len(self.table.sizes)
        self._planned = self._done + visits + again
