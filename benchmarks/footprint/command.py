"""`python -m benchmarks memory`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.footprint.workers import T5, T6
from benchmarks.harness import run
from benchmarks.harness.options import common
from benchmarks.http.bench import Bench

QUICK = {"workers": 2, "rounds": 1}


@click.command()
@click.option("--workers", default=8, show_default=True, type=click.IntRange(1), help="Of gunicorn.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Starts of each arm.")
@common("memory")
def memory(workers: int, rounds: int, seed: int, quick: bool, path: Path | None) -> None:
    """T5 and T6 of TARGETS.md: memory of a server with eight workers, and their time from fork to first answer.

    Arms are started one at a time, in rounds; every answer is checked. Takes about two minutes on two cores.
    """
    sizes = QUICK if quick else {"workers": workers, "rounds": rounds}
    connections = 2 * sizes["workers"]
    run.run(
        "memory",
        [T5, T6],
        lambda directory, progress: Bench(
            directory, progress, sizes["workers"], connections, sizes["rounds"], seed, quick
        ),
        {**sizes, "seed": seed, "quick": quick},
        path,
    )
