"""`onesession trace`: records requests, batches and runs for a few seconds, as a file for a trace viewer."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Any

import click

from broker.cli.options import reported_errors, running_option
from broker.control_plane.query import ask
from broker.counters.counted import counted
from broker.observe.chrome_trace import to_events
from worker_client.system.clock import monotonic
from worker_client.wire.errors import BrokerError

_PAUSE_SECONDS = 0.1


@click.command()
@running_option
@click.option(
    "--seconds", default=5.0, show_default=True, type=click.FloatRange(0.1, 600), help="Seconds to record."
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=lambda *given: _writable(given[-1]),
    help="The file to write.",
)
def trace(name: str | None, seconds: float, output: Path) -> None:
    """Record what a broker does for a few seconds.

    The file has Chrome's trace format: open it at https://ui.perfetto.dev or chrome://tracing. Each worker appears as a
    process with a line for each slot, the broker as one with a line for each thread that runs models; arrows lead from
    requests to their runs. While it is being recorded, the broker is a few percent slower.
    """
    with reported_errors():
        ask(name, "trace", do="start")
        runs: list[list[Any]] = []
        lost = 0
        try:
            deadline = monotonic() + seconds
            while (left := deadline - monotonic()) > 0:
                sleep(min(_PAUSE_SECONDS, left))
                lost = _take(name, "take", runs)
            lost = _take(name, "stop", runs)
        except BaseException:
            with suppress(BrokerError):
                ask(name, "trace", do="stop")
            raise
        pid = ask(name, "status")["status"]["pid"]
    events = to_events(runs, pid)
    output.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}, separators=(",", ":")))
    requests = len({tuple(request[:4]) for run in runs for request in run[-1]})
    more = f"; lost, as they came too fast: {counted(lost, 'run')}" if lost else ""
    click.echo(
        f"{counted(requests, 'request')} in {counted(len(runs), 'run')} written to {output}{more}", err=True
    )


def _writable(path: Path) -> Path:
    """Checked before anything is recorded."""
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise click.BadParameter(f"there is no folder {str(path.parent)!r} that this user may write to")
    return path


def _take(name: str | None, do: str, runs: list[list[Any]]) -> int:
    """Fetches what has been recorded so far; returns how many runs were lost."""
    while True:
        taken = ask(name, "trace", do=do)
        runs.extend(taken["runs"])
        if not taken["more"]:
            return int(taken["lost"])
