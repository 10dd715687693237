"""`python -m benchmarks latency`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import machine, report
from benchmarks.figures import Result
from benchmarks.harness.arm import ArmFailed
from benchmarks.harness.cpu import NotQuiet
from benchmarks.harness.rounds import Plan
from benchmarks.latency.bench import Bench, Target
from benchmarks.latency.echo import T2
from benchmarks.latency.first_answer import T6
from benchmarks.latency.idle import T9
from benchmarks.latency.large_row import T4
from benchmarks.latency.mlp import T1

TARGETS = {target.name: target for target in (T1, T2, T4, T6, T9)}


@click.command()
@click.option(
    "--only", multiple=True, type=click.Choice(list(TARGETS), case_sensitive=False), help="This target only."
)
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(1), help="Windows of each arm.")
@click.option("--calls", default=2000, show_default=True, type=click.IntRange(1), help="Calls of a window.")
@click.option(
    "--idle-seconds", default=5.0, show_default=True, type=click.FloatRange(0.1), help="Silence of T9."
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the inputs.")
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write all figures; default benchmarks/results/latency-TIME.json.",
)
def latency(
    only: tuple[str, ...], rounds: int, calls: int, idle_seconds: float, seed: int, path: Path | None
) -> None:
    """T1, T2, T4, T6 and T9 of TARGETS.md: one worker's calls beside the other ways to make them.

    Every arm runs in processes of its own, in short windows that take turns; every answer is checked. Takes about
    three minutes on two cores, which should have nothing else to do.
    """
    console = report.console()
    options = {"rounds": rounds, "calls": calls, "idle_seconds": idle_seconds, "seed": seed}
    document: dict[str, Any] = {
        "command": "latency",
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "options": options,
    }
    report.print_machine(console, document)
    chosen = [TARGETS[name] for name in TARGETS if not only or name in only]
    results = []
    try:
        for result in measure(chosen, Plan(rounds, calls, seed), idle_seconds, console):
            report.print_result(console, result)
            results.append(result)
    except (ArmFailed, NotQuiet) as error:
        console.print(f"{error}", style="red", markup=False, highlight=False)
        sys.exit(1)
    document["targets"] = {result.target: report.to_json(result) for result in results}
    console.print(f"written to {report.write(document, path)}")


def measure(targets: list[Target], plan: Plan, idle_seconds: float, console: Console) -> Iterator[Result]:
    """One target after the other, with a progress line below what is printed meanwhile."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # for arms and brokers alike
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(30), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="onesession-bench-") as directory,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        task = progress.add_task("")
        name = ""

        def show(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=f"{name}: {what}")

        bench = Bench(Path(directory), plan, idle_seconds, show)
        for number, target in enumerate(targets):
            name = f"({number + 1} of {len(targets)}) {target.name}"
            others = machine.OtherLoad()
            result = target.measure(bench)
            result.other_load = others.share()
            yield result
