"""`onesession status`: whether a broker runs, its workers and its models."""

from __future__ import annotations

import json
from pathlib import Path
from time import sleep
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from broker.cli.options import reported_errors, running_option
from broker.control_plane import node_brokers
from broker.control_plane.awaited_start import AwaitedStart
from broker.control_plane.local_brokers import address_of
from broker.control_plane.node_brokers import NodeBroker
from broker.control_plane.query import ask
from broker.counters.counted import counted
from broker.observe.formatting import how_they_wait
from worker_client.ipc import node_files
from worker_client.system.clock import monotonic
from worker_client.wire.address import first_served, places
from worker_client.wire.errors import BrokerUnavailable

_CHECK_SECONDS = 0.05


@click.command()
@running_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option(
    "--wait-ready",
    "wait_seconds",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Wait up to this many seconds until the broker answers workers, or its start has failed.",
)
def status(name: str | None, as_json: bool, wait_seconds: float | None) -> None:
    """Show a running broker, its workers and its models, and the brokers that workers started on this node. Fails if
    no broker answers."""
    nodes = node_brokers.found(node_files.directory())
    with reported_errors():
        try:
            found = _when_ready(name, wait_seconds or 0.0)
        except BrokerUnavailable:
            if name is not None or as_json or not any(each.alive for each in nodes):
                raise
            return _show_nodes(Console(), nodes)
    if as_json:
        click.echo(json.dumps({**found, "node_brokers": [each.to_message() for each in nodes]}, indent=2))
        return None
    console = Console()
    used, most = found["shared_memory_bytes"], found["max_total_bytes"]
    console.print(f"broker pid {found['pid']} at {found['address']}, up {found['uptime_seconds']:.0f} s")
    if found.get("idle_seconds"):
        console.print(node_brokers.ends_after(found))
    console.print(f"shared memory {_mib(used)} of {_mib(most)} MiB")
    if found.get("waiting"):
        console.print(f"workers {how_they_wait(found['waiting'])}")
    console.print(_models(found["models"]))
    for model, queue in found["queues"].items():
        if queue["rows"]:
            held = f", {counted(queue['held'], 'request')} held until there is room" if queue["held"] else ""
            rows = counted(queue["rows"], "row")
            console.print(escape(f"{model}: waiting: {rows} ({_mib(queue['bytes'])} MiB){held}"))
    for run in found.get("long_runs", ()):
        console.print(escape(run["text"]))
    console.print(_workers(found["workers"]))
    return _show_nodes(console, nodes)


def _show_nodes(console: Console, nodes: list[NodeBroker]) -> None:
    if nodes:
        console.print(f"brokers of this node in {escape(str(nodes[0].path.parent))}:")
    for each in nodes:
        console.print(f"  {escape(each.describe())}", soft_wrap=True, highlight=False)


def _when_ready(name: str | None, seconds: float) -> dict[str, Any]:
    """Raises BrokerUnavailable with the last reason why the broker was not ready, or why its start has failed."""
    deadline = monotonic() + seconds
    awaited: dict[Path, AwaitedStart] = {}
    try:
        while True:
            address = address_of(name)  # by now there may be one, though none was called so
            try:
                status: dict[str, Any] = ask(address, "status")["status"]
                return status
            except BrokerUnavailable:
                left = deadline - monotonic()
                if left <= 0:
                    raise
            path = first_served(places(address))
            start = awaited[path] = awaited.get(path) or AwaitedStart(path)
            if why := start.why_failed():
                raise BrokerUnavailable(f"the broker at {path} could not start: {why}")
            sleep(min(left, _CHECK_SECONDS))
    finally:
        for each in awaited.values():
            each.close()


def _models(models: dict[str, Any]) -> Table:
    table = _table("model", "runs", "requests", "rows", "batches", "rows/batch", "failed", "us/batch")
    for model, signatures in models.items():
        called = {name: stats for name, stats in signatures.items() if stats["requests"]} or signatures
        for name, stats in called.items():
            mean = f"{stats['rows'] / stats['runs']:.1f}" if stats["runs"] else "-"
            place = "light" if stats["light"] else "heavy"
            counts = [str(stats[key]) for key in ("requests", "rows", "runs")]
            failures, cost = str(stats["failures"]), f"{stats['run_us']:.0f}"
            label = model if len(called) == 1 else f"{model}:{name}"
            table.add_row(escape(label), place, *counts, mean, failures, cost)
    return table


def _workers(workers: list[dict[str, Any]]) -> Table:
    table = _table("worker pid", "slots", "in flight", "requests", "shared MiB")
    for worker in workers:
        counts = [str(worker[key]) for key in ("pid", "slots", "in_flight", "requests")]
        table.add_row(*counts, _mib(worker["shared_memory_bytes"]))
    return table


def _table(first: str, *numbers: str) -> Table:
    """Narrow enough for 80 columns; the first column wraps, numbers stand to the right."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _mib(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):.1f}"
