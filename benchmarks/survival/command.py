"""`python -m benchmarks survival`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.harness import run
from benchmarks.harness.options import common
from benchmarks.survival.programs import T12, T13, Bench

TARGETS = run.named((T12, T13))
QUICK = {"kills": 10, "headers": 2000}


@click.command()
@click.option(
    "--only", multiple=True, type=click.Choice(list(TARGETS), case_sensitive=False), help="This target only."
)
@click.option("--kills", default=1000, show_default=True, type=click.IntRange(1), help="Of T12.")
@click.option("--headers", default=1_000_000, show_default=True, type=click.IntRange(1), help="Of T13.")
@common("survival")
def survival(
    only: tuple[str, ...], kills: int, headers: int, seed: int, quick: bool, path: Path | None
) -> None:
    """T12 and T13 of TARGETS.md: random kills under load, and hostile headers.

    Runs `python -m tests.stress` and `python -m tests.faults.fuzz`, which check every answer. Takes about half an hour
    on two cores.
    """
    counts = QUICK if quick else {"kills": kills, "headers": headers}
    run.run(
        "survival",
        [TARGETS[name] for name in TARGETS if not only or name in only],
        lambda directory, progress: Bench(directory, progress, **counts, seed=seed),
        {**counts, "seed": seed, "quick": quick},
        path,
    )
