"""The settings of a model's runs, and the table of measurements for each setting. Pure values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from statistics import median
from typing import Any

NOISE_LEAST = 0.03
NOISE_MOST = 0.25
NOISE_UNKNOWN = 0.10
"""Relative noise: minimum, maximum, and the value for a table in which nothing was measured twice."""


@dataclass(frozen=True, slots=True, order=True)
class RunSetting:
    """How runs of a model are executed. `side_by_side` is the number of concurrent runs."""

    onednn: bool
    intra_op_threads: int
    caller_thread: bool
    side_by_side: int

    @property
    def alone(self) -> RunSetting:
        """The same setting with one run at a time."""
        return replace(self, side_by_side=1)

    def __str__(self) -> str:
        threads = "1 thread" if self.intra_op_threads == 1 else f"{self.intra_op_threads} threads"
        runs = "1 run" if self.side_by_side == 1 else f"{self.side_by_side} runs side by side"
        place = "caller thread" if self.caller_thread else "pool"
        return f"{threads}, {runs}, {place}, oneDNN {'on' if self.onednn else 'off'}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One visit to one setting at one batch size. `seconds` is the total time."""

    p50_us: float
    rows_per_s: float
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not (self.p50_us > 0 and self.rows_per_s > 0):
            raise ValueError(f"a run takes time, got {self}")


@dataclass(slots=True)
class SampleTable:
    """Everything measured of one model. `sizes` are batch sizes; the first is the size of a single request.

    `default` is TensorFlow's default (with the values fixed by hand, as in every setting).
    """

    default: RunSetting
    sizes: tuple[int, ...]
    samples: dict[RunSetting, dict[int, list[Sample]]] = field(default_factory=dict)

    def add(self, setting: RunSetting, rows: int, sample: Sample) -> None:
        self.samples.setdefault(setting, {}).setdefault(rows, []).append(sample)

    @property
    def settings(self) -> list[RunSetting]:
        """The settings for which both p50 and rows per second are known, the default first."""
        known = [s for s in self.samples if self.p50_us(s) is not None and self.rates(s)]
        return sorted(known, key=lambda s: (s != self.default, s))

    def of(self, setting: RunSetting, rows: int) -> list[Sample]:
        return self.samples.get(setting, {}).get(rows, [])

    def p50_us(self, setting: RunSetting) -> float | None:
        """The p50 of one request without concurrent runs; None if it was not measured."""
        samples = self.of(setting.alone, self.sizes[0])
        return median(sample.p50_us for sample in samples) if samples else None

    def rates(self, setting: RunSetting) -> dict[int, float]:
        """{batch size: rows per second}, ascending."""
        found = self.samples.get(setting, {})
        return {rows: median(s.rows_per_s for s in found[rows]) for rows in sorted(found)}

    def best_rate(self, setting: RunSetting) -> float:
        return max(self.rates(setting).values(), default=0.0)

    def repeated(self, setting: RunSetting) -> bool:
        """Whether its best rate was measured more than once."""
        rates = self.rates(setting)
        return bool(rates) and len(self.of(setting, max(rates, key=rates.__getitem__))) > 1

    @property
    def noise(self) -> float:
        """The relative spread of repeated measurements: the median over everything that was measured repeatedly."""
        spreads = [_spread(samples) for by_rows in self.samples.values() for samples in by_rows.values()]
        known = [spread for spread in spreads if spread is not None]
        return min(max(median(known), NOISE_LEAST), NOISE_MOST) if known else NOISE_UNKNOWN

    # -- as plain values -----------------------------------------------------------------------------------------

    def to_message(self) -> dict[str, Any]:
        rows = [
            {"setting": asdict(setting), "rows": rows, "samples": [asdict(sample) for sample in samples]}
            for setting, by_rows in self.samples.items()
            for rows, samples in by_rows.items()
        ]
        return {"default": asdict(self.default), "sizes": list(self.sizes), "measured": rows}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> SampleTable:
        """The table of a message. Raises ValueError, TypeError or KeyError if `to_message` did not make the message."""
        table = cls(setting_from(message["default"]), tuple(_count(size) for size in message["sizes"]))
        if not table.sizes:
            raise ValueError("no batch sizes")
        for entry in message["measured"]:
            setting, rows = setting_from(entry["setting"]), _count(entry["rows"])
            for sample in entry["samples"]:
                table.add(setting, rows, Sample(**{key: _number(value) for key, value in sample.items()}))
        return table


def setting_from(message: Mapping[str, Any]) -> RunSetting:
    """The setting of a message. Raises ValueError, TypeError or KeyError."""
    known = {entry.name for entry in fields(RunSetting)}
    if set(message) != known:
        raise ValueError(f"a setting must have {sorted(known)}, got {sorted(message)}")
    return RunSetting(
        onednn=_truth(message["onednn"]),
        intra_op_threads=_count(message["intra_op_threads"]),
        caller_thread=_truth(message["caller_thread"]),
        side_by_side=_count(message["side_by_side"]),
    )


def _spread(samples: Iterable[Sample]) -> float | None:
    rates = [sample.rows_per_s for sample in samples]
    return (max(rates) - min(rates)) / median(rates) if len(rates) > 1 else None


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {value!r}")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1 << 20:
        raise ValueError(f"expected an integer >= 1, got {value!r}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"expected a number >= 0, got {value!r}")
    return float(value)
