"""`python -m benchmarks profile`: the house's rule is to count the calls before and after a change of the hot path."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks import machine, report
from benchmarks.call_path import counting, stages
from benchmarks.call_path.counting import CallPath
from benchmarks.call_path.recorder import Called
from benchmarks.harness.options import count
from benchmarks.models import exporting

ECHO = "broker.models.python.echo:echo"
POLLING = 16  # the same built-in so often in a row is a polling loop, whose count means nothing


@click.command()
@click.option("--model", type=click.Choice(["mlp", "echo"]), default="mlp", show_default=True)
@click.option("--wait", type=click.Choice(["poll", "block"]), default="poll", show_default=True)
@count("--calls", 5000, "Number of calls for the times of the stages.", least=10)
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the results to this file.",
)
def profile(model: str, wait: str, calls: int, path: Path | None) -> None:
    """Every call between client and session for one small request, on both sides, and the time of each stage."""
    console = report.console()
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    with tempfile.TemporaryDirectory(prefix="onesession-bench-") as name:
        directory = Path(name)
        # Not in a rich status: it starts a thread, and then TensorFlow's chatter cannot be held back
        # (models/tf/import_logs.py).
        console.print("[1/3] the model", style="dim")
        source = _export(directory) if model == "mlp" else ECHO
        console.print("[2/3] timing the stages", style="dim")
        times = stages.measure(source, wait, calls, directory)
        console.print("[3/3] recording the calls", style="dim")
        found = counting.record(source, wait, directory)
    _print_calls(console, found)
    _print_stages(console, model, wait, times)
    if path is not None:
        document = {"command": "profile", "machine": machine.describe(), "model": model, "wait": wait}
        report.write({**document, "calls": asdict(found), "stages_us": times}, path)


def _export(directory: Path) -> str:
    path = str(directory / "mlp")
    exporting.export({"mlp": path})
    return path


def _print_calls(console: Console, found: CallPath) -> None:
    for title, calls in (
        ("worker", found.worker),
        ("broker, until the answer is posted", found.broker),
        ("broker, after that", found.broker_afterwards),
    ):
        python = sum(call.python for call in calls)
        built_in = sum(call.times for call in calls if not call.python and call.times < POLLING)
        table = Table(show_header=False, box=None)
        for call in calls:
            table.add_row(*_row(call))
        console.print(f"{title}: {python} Python calls, {built_in} of built-ins", style="bold")
        console.print(table)
        console.print()


def _row(call: Called) -> tuple[str, str]:
    repeated = " again and again" if call.times >= POLLING else f" x {call.times}" if call.times > 1 else ""
    name = f"{'  ' * call.depth}{call.name}{repeated}"
    return (f"[bold]{name}[/]" if call.python else f"[dim]{name}[/]"), call.where


def _print_stages(console: Console, model: str, wait: str, times: dict[str, float]) -> None:
    table = Table(title=f"stages of predict(x) on {model}, {wait}: median us", title_justify="left")
    table.add_column("stage")
    table.add_column("us", justify="right")
    for stage, us in times.items():
        table.add_row(stage, f"{us:.1f}", end_section=stage == stages.STAGES[-1])
    console.print(table)
