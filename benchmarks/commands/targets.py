"""`python -m benchmarks targets`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks import machine, report
from benchmarks.harness.options import NamesType
from benchmarks.published_results import PUBLISHED, NoResults, PublishedResult, newest
from benchmarks.targets.catalogue import CATALOGUE, NAMES, CommandRun, measurable, plan
from benchmarks.targets.table import Row, rows, summary

_VERDICT = {True: "[green]reached[/]", False: "[red]not reached[/]", None: ""}


@click.command()
@click.option(
    "--only",
    type=NamesType(NAMES),
    help="Targets to measure, such as T1,T5.  [default: all that this environment can measure]",
)
@click.option(
    "--quick", is_flag=True, help="Run everything once and briefly, as a trial; its figures mean nothing."
)
@click.option(
    "--from-published",
    is_flag=True,
    help="Measure nothing: show the newest committed results of each target.",
)
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all figures to this file.  [default: benchmarks/results/targets-TIME.json]",
)
def targets(only: tuple[str, ...] | None, quick: bool, from_published: bool, path: Path | None) -> None:
    """All of TARGETS.md in one table: target, measured, reached or not, with machine, versions and commit.

    Runs the other commands one after the other and writes one JSON, which `compare` can read. Takes about 35 minutes on
    two cores, which should have nothing else to do. Ends with status 1 if a command failed.
    """
    console = report.console()
    only = only or (NAMES if from_published else measurable())
    failed: list[str] = []
    if from_published:
        found = newest(PUBLISHED)
    else:
        document, failed = _measure(console, plan(only, quick), {"only": list(only), "quick": quick})
        written = report.write(document, path)
        found = newest(written) if document["targets"] else {}
    chosen = {name: measured for name, measured in found.items() if name in only}
    print_table(console, chosen, rows(chosen, only))
    if not from_published:
        console.print(f"written to {written}")
    for each in failed:
        console.print(f"failed: {each}", style="red", highlight=False)
    if failed:
        sys.exit(1)


def _measure(
    console: Console, steps: Sequence[CommandRun], options: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The document of all runs together, and the commands that failed."""
    document: dict[str, Any] = {
        "command": "targets",
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "options": options,
        "targets": {},
        "commands": [],
    }
    failed = []
    with tempfile.TemporaryDirectory(prefix="onesession-targets-") as folder:
        for number, step in enumerate(steps):
            words = f"python -m benchmarks {' '.join(step.arguments)}"
            console.rule(f"[{number + 1}/{len(steps)}] {words}", align="left")
            path, began = Path(folder, f"{number}.json"), time.monotonic()
            command = [sys.executable, "-m", "benchmarks", *step.arguments, "--json", str(path)]
            status = _run(command)
            document["commands"].append(
                {"command": words, "status": status, "seconds": round(time.monotonic() - began, 1)}
            )
            failed += [f"{words} (status {status})"] if status else []
            document["targets"].update(_results(path, step))
    order = {line.target: place for place, line in enumerate(CATALOGUE)}
    document["targets"] = dict(sorted(document["targets"].items(), key=lambda each: order[each[0]]))
    return document, failed


def _run(command: Sequence[str]) -> int:
    """Its exit status. If this process is asked to end, it ends the command, which then stops what it has started."""
    with subprocess.Popen(command, cwd=machine.ROOT) as running:
        try:
            return running.wait()
        except BaseException:
            running.terminate()
            raise


def _results(path: Path, step: CommandRun) -> dict[str, Any]:
    """The results of the targets that a step was run for: another step may be run for other targets of its command."""
    try:
        run = newest(path)
    except NoResults:
        return {}
    return {
        name: {**run[name].result, "started": run[name].started, "options": run[name].run["options"]}
        for name in step.targets
        if name in run
    }


def print_table(console: Console, runs: Mapping[str, PublishedResult], lines: Sequence[Row]) -> None:
    console.print()
    for text in machines(runs):
        console.print(text, highlight=False)
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("")
    table.add_column("figure", max_width=50)
    for heading in ("measured", "lowest to highest", "target"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("stretch", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("commit", no_wrap=True)
    last = ""
    for line in lines:
        table.add_row(
            line.target if line.target != last else "",
            line.figure,
            line.measured or "[yellow]not measured[/]",
            line.span,
            line.bound,
            _VERDICT[line.reached],
            line.stretch,
            _VERDICT[line.stretch_reached],
            line.commit,
        )
        last = line.target
    console.print(table)
    console.print(summary(lines), style="bold", highlight=False)
    busy = [name for name, measured in runs.items() if measured.result["other_load"] > report.BUSY]
    if busy:
        console.print(f"something else used the machine meanwhile: {', '.join(busy)}", style="yellow")


def machines(runs: Mapping[str, PublishedResult]) -> list[str]:
    """Each machine with its versions once, and the targets that were measured on it."""
    where: dict[str, list[str]] = {}
    for name, measured in runs.items():
        facts = measured.machine
        text = (
            f"{facts['cpu']}, {facts['cores']} cores, Linux {facts['kernel']}, Python {facts['python']}, "
            f"TensorFlow {facts['tensorflow']}, numpy {facts['numpy']}"
        )
        where.setdefault(text, []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in where.items()]
