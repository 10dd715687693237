"""Results as tables for the reader and as JSON for the next run to be compared with."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import arm_report
from benchmarks.figures import Figure, Sheet, TargetResult, number
from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
BUSY = 0.05  # other load, as a share of all cores, from which on the reader is warned


def console() -> Console:
    """A console as wide as the terminal; wide enough for the tables where the output is not a terminal."""
    made = Console()
    return made if made.is_terminal else Console(width=130)


def print_machine(console: Console, document: dict[str, Any]) -> None:
    facts = document["machine"]
    options = ", ".join(f"{name} {value}" for name, value in document["options"].items())
    console.print(
        f"{facts['cpu']}, {facts['cores']} cores, Linux {facts['kernel']}, Python {facts['python']}, "
        f"TensorFlow {facts['tensorflow']}, numpy {facts['numpy']}\n"
        f"commit {facts['commit']}{' with uncommitted changes' if facts['uncommitted_changes'] else ''}; {options}",
        highlight=False,
    )


def print_result(console: Console, result: TargetResult) -> None:
    console.print()
    title = f"{result.target}: {result.title}"
    console.print(
        arm_report.table(title, result.unit, result.series) if result.series else f"[bold]{title}[/]"
    )
    for sheet in result.sheets:
        console.print(_sheet(sheet))
    if result.figures:
        console.print(_figures(result))
    for name, why in result.skipped.items():
        console.print(f"left out: {name}: {why}", style="yellow", markup=False)
    for note in result.notes:
        console.print(note, style="dim", markup=False)
    if result.other_load > BUSY:
        share = f"{result.other_load:.0%}"
        console.print(f"Something else took {share} of the machine meanwhile: trust no figure.", style="red")


def _sheet(sheet: Sheet) -> Table:
    table = Table(title=sheet.title, title_justify="left", show_edge=False, pad_edge=False)
    for heading in sheet.headings:
        table.add_column(heading, justify="right" if table.columns else "left")
    for row in sheet.rows:
        table.add_row(*row)
    return table


def _figures(result: TargetResult) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("figure", no_wrap=True)
    for heading in ("measured", "lowest to highest", "target"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("stretch", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for figure in result.figures:
        value = figure.value
        table.add_row(
            figure.label,
            f"[bold]{number(value.median)} {figure.unit}[/]",
            f"{number(value.low)} to {number(value.high)}",
            _bound(figure.target, figure),
            _verdict(figure.reached),
            _bound(figure.stretch, figure),
            _verdict(figure.stretch_reached),
        )
    return table


def _bound(bound: float | None, figure: Figure) -> str:
    return "" if bound is None else f"{'>=' if figure.at_least else '<='} {bound:g} {figure.unit}"


def _verdict(reached: bool | None) -> str:
    if reached is None:
        return ""
    return "[green]reached[/]" if reached else "[red]not reached[/]"


def to_json(result: TargetResult) -> dict[str, Any]:
    return {
        "title": result.title,
        "arms": {key: arm_report.to_json(series) for key, series in result.series.items()},
        "figures": [_figure(figure) for figure in result.figures],
        "notes": result.notes,
        "skipped": result.skipped,
        "other_load": result.other_load,
        **({"sheets": [asdict(sheet) for sheet in result.sheets]} if result.sheets else {}),
        **({"details": result.details} if result.details else {}),
    }


def _figure(figure: Figure) -> dict[str, Any]:
    value = figure.value
    return {
        "label": figure.label,
        "unit": figure.unit,
        "value": value.median,
        "low": value.low,
        "high": value.high,
        "rounds": list(value.rounds),
        "bound": "at least" if figure.at_least else "at most",
        "target": figure.target,
        "reached": figure.reached,
        "stretch": figure.stretch,
        "stretch_reached": figure.stretch_reached,
    }


def write(document: dict[str, Any], path: Path | None) -> Path:
    """Write the run's JSON; where, if the reader did not say: results/COMMAND-TIME.json."""
    if path is None:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{document['command']}-{datetime.now().astimezone():%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path
