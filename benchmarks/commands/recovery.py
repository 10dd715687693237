"""`python -m benchmarks recovery`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.harness import run
from benchmarks.harness.options import common
from benchmarks.recovery.deaths import T11, Bench


@click.command()
@click.option(
    "--kills", default=20, show_default=True, type=click.IntRange(1), help="Brokers killed, one by one."
)
@click.option(
    "--callers", default=4, show_default=True, type=click.IntRange(1), help="Processes of either sort."
)
@common("recovery", quick=False)
def recovery(kills: int, callers: int, seed: int, path: Path | None) -> None:
    """T11 of TARGETS.md: how soon callers know that their broker was killed, and when the next one answers them.

    Every answer is checked. Takes about two minutes on two cores.
    """
    options = {"kills": kills, "callers": callers, "seed": seed}
    run.run(
        "recovery",
        [T11],
        lambda directory, progress: Bench(directory, progress, kills, callers, seed),
        options,
        path,
    )
