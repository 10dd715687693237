"""`python -m benchmarks recovery`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.harness import run
from benchmarks.harness.options import common, count
from benchmarks.recovery.deaths import T11, RecoveryBench


@click.command()
@count("--kills", 20, "Number of brokers to kill, one after the other.")
@count("--callers", 4, "Number of calling processes with retries, and without.")
@common("recovery", quick=False)
def recovery(kills: int, callers: int, seed: int, path: Path | None) -> None:
    """T11 of TARGETS.md: how soon callers know that their broker was killed, and when the next one answers them.

    Every answer is checked. Takes about two minutes on two cores.
    """
    options = {"kills": kills, "callers": callers, "seed": seed}
    run.run(
        "recovery",
        [T11],
        lambda directory, progress: RecoveryBench(directory, progress, kills, callers, seed),
        options,
        path,
    )
