"""`onesession ls`: lists the brokers of this machine."""

from __future__ import annotations

import json

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from broker.control_plane import local_brokers
from worker_client.wire.address import runtime_directory


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def ls(as_json: bool) -> None:
    """List the running brokers that have a name: those of `serve`, `run` and gunicorn, and this node's.

    Commands that query a broker use it if it is the only one; if there are several, select one with --name.
    """
    found = local_brokers.found()
    if as_json:
        click.echo(json.dumps([each.to_message() for each in found], indent=2))
        return
    if not found:
        click.echo(f"no broker serves in {runtime_directory()}", err=True)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("name", overflow="fold")
    for title in ("pid", "up", "workers"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("models", overflow="fold")
    for each in found:
        facts = each.to_message()
        models = ", ".join(facts["models"]) if each.status else each.state
        workers = "-" if facts["workers"] is None else str(facts["workers"])
        up = _duration(facts["uptime_seconds"])
        table.add_row(escape(each.name), str(each.pid), up, workers, escape(models))
    Console().print(table)


def _duration(seconds: float | None) -> str:
    """In the unit that needs the fewest digits."""
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
