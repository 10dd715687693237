"""`onesession doctor`: finds problems on this machine and prints the remedies."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from broker.cli.options import reported_errors, running_option
from broker.control_plane import node_brokers
from broker.counters.counted import counted
from broker.doctor.all_checks import examine
from broker.doctor.checks import leftovers
from broker.doctor.finding import Finding, Severity, worst
from worker_client.ipc import node_files
from worker_client.wire.address import first_served, places

_STYLES = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.PROBLEM: "bold red"}


@click.command()
@running_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option(
    "--sweep",
    is_flag=True,
    help="First remove what dead brokers left behind: names in /dev/shm, files of node brokers.",
)
def doctor(name: str | None, as_json: bool, sweep: bool) -> None:
    """Find problems that affect a broker or its workers.

    Checks the machine, and the broker and its workers if a broker answers. Fails if there is a problem; warnings do
    not count.
    """
    with reported_errors():
        path = first_served(places(name))
    removed = [*node_brokers.sweep(node_files.directory()), *leftovers.sweep()] if sweep else []
    findings = examine(path)
    level = worst(findings)
    if as_json:
        message = {
            "address": str(path),
            "worst": level.value,
            "swept": [path.name for path in removed],
            "findings": [finding.to_message() for finding in findings],
        }
        click.echo(json.dumps(message, indent=2))
    else:
        _show(findings, removed)
    sys.exit(1 if level is Severity.PROBLEM else 0)


def _show(findings: list[Finding], removed: list[Path]) -> None:
    console = Console()
    for path in removed:
        console.print(f"removed {escape(str(path))}", highlight=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found, and the remedy", overflow="fold")
    for finding in findings:
        text = escape(finding.found)
        if finding.remedy:
            text += f"\n[bold]->[/] {escape(finding.remedy)}"
        table.add_row(escape(finding.check), f"[{_STYLES[finding.level]}]{finding.level.value}[/]", text)
    console.print(table)
    counts = {level: sum(finding.level is level for finding in findings) for level in Severity}
    found = (counted(counts[level], level.name.lower()) for level in (Severity.PROBLEM, Severity.WARNING))
    console.print(", ".join(found), highlight=False)
