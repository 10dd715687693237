"""What a target asks for beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.sampling import Series, Spread


@dataclass(frozen=True)
class Figure:
    """One measured value with its target and stretch target, both upper bounds in the same unit."""

    label: str
    value: Spread
    unit: str
    target: float | None
    stretch: float | None = None

    @property
    def reached(self) -> bool | None:
        return None if self.target is None else self.value.median <= self.target

    @property
    def stretch_reached(self) -> bool | None:
        return None if self.stretch is None else self.value.median <= self.stretch


@dataclass
class Result:
    """One target: its arms, its figures, and what a reader must know about how they were taken."""

    target: str
    title: str
    unit: str  # of the arms' times: "us" or "ms"
    series: Mapping[str, Series]
    figures: list[Figure]
    notes: list[str] = field(default_factory=list)
    other_load: float = 0.0  # what else used the machine meanwhile, as a share of all cores


NS_PER = {"us": 1e3, "ms": 1e6}
