"""`onesession stats`: what requests cost, stage by stage."""

from __future__ import annotations

import json
import time

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from broker.cli.options import reported_errors, running_option
from broker.control_plane.query import ask
from broker.observe import formatting as wording
from broker.observe.summary import Figures, document, figures, label_of, shown


@click.command()
@running_option
@click.option(
    "--seconds",
    type=click.FloatRange(0.0, min_open=True),
    help="Observe for this many seconds and show only that time.  [default: all since the broker started]",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON; times are in microseconds.")
def stats(name: str | None, seconds: float | None, as_json: bool) -> None:
    """Show what requests cost: time in the ring, waiting for a batch, running, and copying the outputs.

    Times are the median and the 99th percentile, accurate to about 25 %. They end when the answer is in shared memory;
    the worker's wake-up is not included.
    """
    with reported_errors():
        before = None
        if seconds is not None:
            before = ask(name, "stats")["stats"]
            time.sleep(seconds)
        now = ask(name, "stats")["stats"]
    found = figures(now, before)
    if as_json:
        click.echo(json.dumps(document(now, found), indent=2))
        return
    found = shown(found, now)
    console = Console()
    span = f"the last {seconds:g} s" if seconds is not None else f"{wording.age(now['uptime_seconds'])}"
    console.print(f"broker pid {now['pid']} at {now['address']}: {span}", highlight=False, soft_wrap=True)
    console.print(requests_table(found))
    console.print(stages_table(found))
    for figure in found:
        if figure.light is not None:
            state = f"{'light' if figure.light else 'heavy'} ({figure.why})"
            console.print(escape(f"{label_of(figure, found)}: {state}"), highlight=False)
        if figure.errors:
            kinds = ", ".join(f"{times:,} {kind}" for kind, times in sorted(figure.errors.items()))
            console.print(escape(f"{label_of(figure, found)}: {kinds}"), highlight=False)
    for run in now.get("long_runs", ()):
        console.print(escape(run["text"]), highlight=False)
    for refused in now["signatures"]:
        if not refused["model"]:
            kinds = ", ".join(f"{times:,} {kind}" for kind, times in refused["errors"].items())
            console.print(escape(f"refused without a model: {kinds}"), highlight=False)


def requests_table(found: list[Figures]) -> Table:
    table = new_table("model", "requests", "per s", "failed", "rows", "runs", "rows/run", "copied/req")
    for figure in found:
        copied = wording.size(figure.copied_bytes / figure.requests) if figure.requests else "-"
        table.add_row(
            escape(label_of(figure, found)),
            *(wording.number(figure.requests), wording.number(figure.per_second)),
            *(wording.number(figure.failed), wording.number(figure.rows), wording.number(figure.runs)),
            *(f"{figure.rows_a_run:.1f}" if figure.runs else "-", copied),
        )
    return table


def stages_table(found: list[Figures]) -> Table:
    """Median and 99th percentile of each stage."""
    table = new_table("p50/p99", "queue", "wait", "run", "copy", "total")
    for figure in found:
        cells = [
            f"{wording.duration(figure.us(stage, 0.5))}/{wording.duration(figure.us(stage, 0.99))}"
            if figure.stages[stage].count
            else "-"
            for stage in figure.stages
        ]
        ordered = dict(zip(figure.stages, cells))
        table.add_row(
            escape(label_of(figure, found)),
            *[ordered[stage] for stage in ("queue", "wait", "run", "copy", "total")],
        )
    return table


def new_table(first: str, *numbers: str) -> Table:
    """Narrow enough for 80 columns; the first column wraps, numbers stand to the right."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    return table
