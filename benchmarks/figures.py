"""Figures with their targets, and the result of one target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.rates import RateSeries
from benchmarks.sampling import Series, Spread


@dataclass(frozen=True)
class Figure:
    """One measured value with its target and stretch target in the same unit: both upper bounds, or `at_least`, both
    lower ones."""

    label: str
    value: Spread
    unit: str
    target: float | None = None
    stretch: float | None = None
    at_least: bool = False

    @property
    def reached(self) -> bool | None:
        return self._within(self.target)

    @property
    def stretch_reached(self) -> bool | None:
        return self._within(self.stretch)

    def _within(self, bound: float | None) -> bool | None:
        if bound is None:
            return None
        return self.value.median >= bound if self.at_least else self.value.median <= bound


@dataclass(frozen=True)
class Sheet:
    """A table for values that are neither arms nor figures: the first column names the row, the others are numbers."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass
class TargetResult:
    """One target: its arms, its figures, and notes on how they were measured."""

    target: str
    title: str
    unit: str  # of the arms' times: "us" or "ms"
    series: Mapping[str, Series] | Mapping[str, RateSeries]
    figures: list[Figure]
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # arms that cannot run here, and why
    other_load: float = 0.0  # what else used the machine meanwhile, as a share of all cores
    sheets: list[Sheet] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)  # for the JSON only


def number(value: float) -> str:
    """With three significant digits."""
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


NS_PER = {"us": 1e3, "ms": 1e6}
