"""`python -m benchmarks node`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from benchmarks.harness import run
from benchmarks.harness.options import common
from benchmarks.harness.run import Target
from benchmarks.node import engines
from benchmarks.node.start import T22, Bench

QUICK = {"processes": 8, "rounds": 3, "racers": 4, "race_seconds": 5.0}
ENGINE_QUICK = {"rounds": 1, "workers": 2, "rows": 1000, "batch": 250}
ENGINES = {
    "spark": (engines.SPARK, "pyspark"),
    "ray": (engines.RAY, "ray"),
    "beam": (engines.BEAM, "apache_beam"),
}


@click.group()
def node() -> None:
    """One broker a node: how it starts and ends, and what engines gain by it."""


@node.command()
@click.option("--processes", default=32, show_default=True, type=click.IntRange(2), help="At once.")
@click.option(
    "--rounds", default=20, show_default=True, type=click.IntRange(1), help="One is killed in each."
)
@click.option("--racers", default=6, show_default=True, type=click.IntRange(1), help="Processes of the race.")
@click.option("--race-seconds", default=60.0, show_default=True, type=click.FloatRange(0), help="Its length.")
@common("node-start")
def start(
    processes: int,
    rounds: int,
    racers: int,
    race_seconds: float,
    seed: int,
    quick: bool,
    path: Path | None,
) -> None:
    """T22 of TARGETS.md: processes that ask for the node's broker at the same time, a random one killed meanwhile, and
    others that come and go as fast as the broker ends.

    Every answer is checked. Takes about four minutes.
    """
    given = {"processes": processes, "rounds": rounds, "racers": racers, "race_seconds": race_seconds}
    options = QUICK if quick else given
    run.run(
        "node-start",
        [T22],
        lambda directory, progress: Bench(directory, progress, **options, seed=seed),
        {**options, "seed": seed, "quick": quick},
        path,
    )


def _engine(name: str, target: Target, module: str) -> click.Command:
    @click.command(name, help=f"{target.title}. Every answer is checked.")
    @click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Of both arms.")
    @click.option("--workers", default=4, show_default=True, type=click.IntRange(1), help="Of the engine.")
    @click.option("--rows", default=4000, show_default=True, type=click.IntRange(1), help="Of a query.")
    @click.option("--batch", default=250, show_default=True, type=click.IntRange(1), help="Rows of a call.")
    @common(f"node-{name}")
    def command(seed: int, quick: bool, path: Path | None, **given: int) -> None:
        if importlib.util.find_spec(module) is None:
            raise click.UsageError(
                f"{module} is not installed here: `make test-engines` makes an environment that has it, so run "
                f".venv-engines/bin/python -m benchmarks node {name}"
            )
        options = ENGINE_QUICK if quick else given
        run.run(
            f"node-{name}",
            [target],
            lambda directory, progress: engines.Bench(directory, progress, **options),
            {**options, "seed": seed, "quick": quick},
            path,
        )

    return command


for name, (target, module) in ENGINES.items():
    node.add_command(_engine(name, target, module))
