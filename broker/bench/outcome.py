"""The outcome of a sweep, and its JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from broker.bench.load.samples import Window
from broker.bench.plan import Case, SweepPlan

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)
UNSENT_SHARE = 0.01
"""The share of the planned requests that may be unsent at the end of a window whose rate counts as reached."""
BUSY_CORES = 0.2
"""A figure counts as disturbed if other programs use this many cores or more."""


@dataclass(frozen=True)
class MeasuredCase:
    """One arm in one case: `window` is its last windows together, `windows` how many were made in all."""

    arm: str
    label: str
    case: Case
    window: Window
    windows: int
    stable: bool
    memory_bytes: int | None = None

    @property
    def per_s(self) -> float:
        return self.window.per_s

    @property
    def rows_per_s(self) -> float:
        return self.window.per_s * max(1, self.case.rows)

    def us(self, percentile: float) -> float:
        return self.window.ns(percentile) / 1000

    @property
    def rate_reached(self) -> bool:
        """True for a closed loop. What is due at the very end of a window may be left: one a thread, or a percent."""
        threads = self.case.workers * self.case.load.concurrency
        return self.window.unsent <= max(threads, UNSENT_SHARE * len(self.window.taken_ns))

    @property
    def disturbed(self) -> bool:
        """Other programs used so much of the machine that the figures are theirs, too."""
        return self.window.others >= BUSY_CORES

    @property
    def notes(self) -> list[str]:
        """Notes on this line."""
        notes = []
        if not self.rate_reached:
            notes.append(
                f"rate not reached: {self.per_s:,.0f} of {self.case.load.rate:,.10g}/s; {self.window.unsent:,} "
                "requests had not been sent when their window ended, and latency grows with its length"
            )
        if self.window.failures:
            failed = ", ".join(f"{count} {name}" for name, count in sorted(self.window.failures.items()))
            notes.append(f"failed: {failed}")
        return notes

    def to_json(self) -> dict[str, Any]:
        window = self.window
        return {
            "arm": self.arm,
            "workers": self.case.workers,
            "rows": self.case.rows,
            "load": asdict(self.case.load),
            "requests_per_s": self.per_s,
            "rows_per_s": self.rows_per_s,
            "latency_us": {f"p{percentile:g}": self.us(percentile) for percentile in PERCENTILES},
            "samples": len(window.taken_ns),
            "stages_us": window.stages_us,
            "stages_of_calls": len(window.stages_ns),
            "batch_rows": window.batch_rows,
            "cpu_s_per_1000": window.cpu_s_per_1000,
            "memory_bytes": self.memory_bytes,
            "answers_checked": window.checked,
            "failures": dict(window.failures),
            "unsent": window.unsent,
            "rate_reached": self.rate_reached,
            "stable": self.stable,
            "windows": self.windows,
            "other_cores": window.others,
        }


@dataclass
class SweepOutcome:
    """All of it. `checked_against` says where the right answers came from, None if nothing was checked."""

    model: str
    signature: str
    plan: SweepPlan
    machine: dict[str, Any]
    broker: dict[str, Any]
    inputs: str
    checked_against: str | None
    measured: list[MeasuredCase] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, case: Case, arm: str) -> MeasuredCase | None:
        return next((each for each in self.measured if each.case == case and each.arm == arm), None)

    @property
    def cases(self) -> list[Case]:
        return list(dict.fromkeys(each.case for each in self.measured))

    @property
    def arms(self) -> dict[str, str]:
        """Their labels by name, the broker first."""
        return {each.arm: each.label for each in self.measured}

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "signature": self.signature,
            "seed": self.plan.seed,
            "plan": asdict(self.plan),
            "machine": self.machine,
            "broker": self.broker,
            "inputs": self.inputs,
            "checked_against": self.checked_against,
            "measured": [each.to_json() for each in self.measured],
            "left_out": self.left_out,
            "notes": self.notes,
        }
