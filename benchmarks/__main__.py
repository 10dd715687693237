"""`python -m benchmarks COMMAND`: the benchmarks of the project. Each command is a file of `commands/`."""

from __future__ import annotations

import signal
import sys

import click

from benchmarks.commands import (
    aio,
    compare,
    http,
    latency,
    losses,
    memory,
    node,
    peers,
    profile,
    recovery,
    reload,
    survival,
    targets,
    throughput,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure onesession beside its alternatives, on this machine, in one run."""


for command in (
    aio.aio,
    compare.compare,
    http.http,
    latency.latency,
    losses.losses,
    memory.memory,
    node.node,
    peers.peers,
    profile.profile,
    recovery.recovery,
    reload.reload,
    survival.survival,
    targets.targets,
    throughput.throughput,
):
    main.add_command(command)

if __name__ == "__main__":
    # An end like any other: what was started is stopped, what was written to /tmp is removed.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    main(prog_name="python -m benchmarks")
