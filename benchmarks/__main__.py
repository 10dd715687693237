"""`python -m benchmarks COMMAND`: what the project is measured with, each command a folder of this package."""

from __future__ import annotations

import signal
import sys

import click

from benchmarks.aio.command import aio
from benchmarks.call_path.command import profile
from benchmarks.compare.command import compare
from benchmarks.footprint.command import memory
from benchmarks.http.command import http
from benchmarks.latency.command import latency
from benchmarks.losses.command import losses
from benchmarks.node.command import node
from benchmarks.peers.command import peers
from benchmarks.recovery.command import recovery
from benchmarks.reload.command import reload
from benchmarks.survival.command import survival
from benchmarks.targets.command import targets
from benchmarks.throughput.command import throughput


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure onesession beside its alternatives, on this machine, in one run."""


main.add_command(aio)
main.add_command(compare)
main.add_command(http)
main.add_command(latency)
main.add_command(losses)
main.add_command(memory)
main.add_command(node)
main.add_command(peers)
main.add_command(profile)
main.add_command(recovery)
main.add_command(reload)
main.add_command(survival)
main.add_command(targets)
main.add_command(throughput)

if __name__ == "__main__":
    # An end like any other: what was started is stopped, what was written to /tmp is removed.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    main(prog_name="python -m benchmarks")
