"""Chooses from the table of measurements. Pure; the rule is defined only here.

For one model, only settings count that are not worse than TensorFlow's default beyond noise, neither in the p50 of a
single request nor in rows per second at any batch size measured for both. Of these, the rule takes the most rows per
second; of those within a few percent of it, the lowest p50; of those within a few percent of that, the fewest threads.
The default stays if the winner is not better by more than the noise. The batch size is the smallest one with nearly all
rows per second of the setting.

oneDNN is one switch for the whole process. It is changed from TensorFlow's default only if no model then gets worse
than its default, and only if the total improves: the sum over the models of the seconds per row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broker.tuning.setting import RunSetting, SampleTable

NEARLY_ALL = 0.97
TIE = 0.03
ENOUGH_SIZES = 3
"""Batch sizes that must have been measured before one of them becomes the limit."""
BUSY_NOISE = 0.25
"""The noise that is assumed if other programs used the machine: only a clear gain replaces the default."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen setting. `batch_size` None: not found. `rate` (rows per second) and `p50_us` are the measured
    values."""

    setting: RunSetting
    batch_size: int | None
    rate: float
    p50_us: float
    default_rate: float
    default_p50_us: float

    @property
    def gain(self) -> float:
        """Rows per second over TensorFlow's default."""
        return self.rate / self.default_rate

    def __str__(self) -> str:
        batches = f", batches of up to {self.batch_size}" if self.batch_size else ""
        if self.batch_size == 1:
            batches = ", no batches"
        return (
            f"{self.setting}{batches}: {self.rate:.0f} rows/s (TensorFlow's defaults "
            f"{self.default_rate:.0f}), "
            f"one row in {_time(self.p50_us)} ({_time(self.default_p50_us)})"
        )


def choose(table: SampleTable, onednn: bool, *, busy: bool = False) -> Choice | None:
    """The best setting with this value of oneDNN; None if the table has none of it, or not the default."""
    if table.default not in table.settings:
        return None
    noise = max(table.noise, BUSY_NOISE) if busy else table.noise
    ours = [setting for setting in table.settings if setting.onednn == onednn]
    fair = [s for s in ours if s == table.default or (no_worse(table, s, noise) and _clear(table, s, noise))]
    fair = [s for s in fair if table.repeated(s)] or fair  # a rate measured only once may be an outlier
    if fair:
        return _choice(table, _best(table, fair), busy)
    # Only if oneDNN was changed from its default, by hand or for another model: the best remaining setting.
    return _choice(table, _best(table, ours), busy) if ours else None


def choose_onednn(tables: Sequence[SampleTable], default: bool, busy: Iterable[bool] = ()) -> bool:
    """The value of the switch that is best for all models together. `busy`: for each table, whether other programs
    disturbed it."""
    disturbed = list(busy) or [False] * len(tables)
    other = not default
    costs: dict[bool, float] = {default: 0.0, other: 0.0}
    waits: dict[bool, float] = {default: 0.0, other: 0.0}
    noises = [0.0]
    for table, is_busy in zip(tables, disturbed):
        noise = max(table.noise, BUSY_NOISE) if is_busy else table.noise
        choices = {value: choose(table, value, busy=is_busy) for value in (default, other)}
        ours, theirs = choices[default], choices[other]
        if ours is None or theirs is None or not no_worse(table, theirs.setting, noise):
            return default
        noises.append(noise)
        for value, choice in ((default, ours), (other, theirs)):
            costs[value] += 1 / choice.rate
            waits[value] += choice.p50_us
    most = max(noises)
    if costs[other] < costs[default] * (1 - most):
        return other
    if waits[other] < waits[default] * (1 - most) and costs[other] <= costs[default] * (1 + TIE):
        return other
    return default


def no_worse(table: SampleTable, setting: RunSetting, noise: float) -> bool:
    """Whether it is not worse than the default beyond noise, in p50 and at every batch size measured for both."""
    p50_us, default_p50_us = table.p50_us(setting), table.p50_us(table.default)
    if p50_us is None or default_p50_us is None or p50_us > default_p50_us * (1 + noise):
        return False
    rates, default_rates = table.rates(setting), table.rates(table.default)
    if any(rates[rows] < default_rates[rows] * (1 - noise) for rows in rates.keys() & default_rates.keys()):
        return False
    return max(rates.values()) >= max(default_rates.values()) * (1 - noise)


def batch_size(rates: Mapping[int, float]) -> int:
    """The smallest batch size with nearly all of the most rows per second."""
    most = max(rates.values())
    return min(rows for rows, rate in rates.items() if rate >= NEARLY_ALL * most)


def _clear(table: SampleTable, setting: RunSetting, noise: float) -> bool:
    """Whether it is better than the default by more than noise, in p50 or in rows per second."""
    p50_us, default_p50_us = table.p50_us(setting) or 0.0, table.p50_us(table.default) or 0.0
    faster = table.best_rate(setting) > table.best_rate(table.default) * (1 + noise)
    return faster or p50_us < default_p50_us * (1 - noise)


def _best(table: SampleTable, settings: Sequence[RunSetting]) -> RunSetting:
    most = max(table.best_rate(setting) for setting in settings)
    fast = [s for s in settings if table.best_rate(s) >= most * (1 - TIE)]
    least = min(table.p50_us(s) or 0.0 for s in fast)
    quick = [s for s in fast if (table.p50_us(s) or 0.0) <= least * (1 + TIE)]
    return min(quick, key=lambda s: (s.intra_op_threads * s.side_by_side, not s.caller_thread, s))


def _choice(table: SampleTable, setting: RunSetting, busy: bool) -> Choice:
    default = table.default
    rates = table.rates(setting)
    unknown = busy or len(table.sizes) == 1 or len(rates) < min(ENOUGH_SIZES, len(table.sizes))
    return Choice(
        setting=setting,
        batch_size=None if unknown else batch_size(rates),
        rate=table.best_rate(setting),
        p50_us=table.p50_us(setting) or 0.0,
        default_rate=table.best_rate(default),
        default_p50_us=table.p50_us(default) or 0.0,
    )


def _time(us: float) -> str:
    return f"{us:.1f} us" if us < 100 else f"{us:.0f} us" if us < 10_000 else f"{us / 1000:.1f} ms"
