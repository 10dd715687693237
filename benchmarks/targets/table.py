"""Targets beside measured values: figures that have a bound, and targets that have not been measured. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import number
from benchmarks.published_results import PublishedResult
from benchmarks.targets.catalogue import CATALOGUE


@dataclass(frozen=True)
class Row:
    """One figure of a target, or the target alone if it has not been measured (`measured` is then empty)."""

    target: str
    figure: str
    measured: str = ""
    span: str = ""
    bound: str = ""
    reached: bool | None = None
    stretch: str = ""
    stretch_reached: bool | None = None
    commit: str = ""
    started: str = ""


def rows(runs: Mapping[str, PublishedResult], wanted: Iterable[str]) -> list[Row]:
    """The rows in the order of the catalogue."""
    found: list[Row] = []
    for line in CATALOGUE:
        if line.target in wanted:
            measured = runs.get(line.target)
            figures = [] if measured is None else _bounded(measured.result["figures"])
            found += [_row(line.target, each, measured) for each in figures if measured]
            if not figures:
                found.append(Row(line.target, line.what))
    return found


def summary(lines: Iterable[Row]) -> str:
    """`11 of 14 targets reached; T2, T3 not; T12 not measured`"""
    by_target: dict[str, list[bool | None]] = {}
    for line in lines:
        by_target.setdefault(line.target, []).append(line.reached)
    missed = [name for name, all_of_it in by_target.items() if False in all_of_it]
    unknown = [name for name, all_of_it in by_target.items() if set(all_of_it) == {None}]
    parts = [f"{len(by_target) - len(missed) - len(unknown)} of {len(by_target)} targets reached"]
    parts += [f"not reached: {', '.join(missed)}"] if missed else []
    parts += [f"not measured: {', '.join(unknown)}"] if unknown else []
    return "; ".join(parts)


def _bounded(figures: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in figures if each["target"] is not None or each["stretch"] is not None]


def _row(target: str, figure: Mapping[str, Any], measured: PublishedResult) -> Row:
    return Row(
        target,
        figure["label"].strip(),
        f"{number(figure['value'])} {figure['unit']}".strip(),
        f"{number(figure['low'])} to {number(figure['high'])}",
        _bound(figure, "target"),
        figure["reached"],
        _bound(figure, "stretch"),
        figure["stretch_reached"],
        measured.commit,
        measured.started[:10],
    )


def _bound(figure: Mapping[str, Any], which: str) -> str:
    """Older results do not say which way a bound goes, but whether it was reached."""
    bound = figure[which]
    if bound is None:
        return ""
    at_least = figure.get("bound", _guess(figure, which)) == "at least"
    return f"{'>=' if at_least else '<='} {bound:,g} {figure['unit']}".strip()


def _guess(figure: Mapping[str, Any], which: str) -> str:
    reached = figure["reached" if which == "target" else "stretch_reached"]
    return "at least" if (figure["value"] > figure[which]) == reached else "at most"
