"""`python -m benchmarks node`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from benchmarks.harness import run
from benchmarks.harness.options import common, count
from benchmarks.harness.run import MeasuredTarget
from benchmarks.node import engines
from benchmarks.node.start import T22, NodeStartBench

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
@count("--processes", 32, "Number of processes that ask at the same time.", least=2)
@count("--rounds", 20, "Number of rounds; one process is killed in each.")
@count("--racers", 6, "Number of processes in the race.")
@click.option(
    "--race-seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Length of the race in seconds.",
)
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
        lambda directory, progress: NodeStartBench(directory, progress, **options, seed=seed),
        {**options, "seed": seed, "quick": quick},
        path,
    )


def _engine(name: str, target: MeasuredTarget, module: str) -> click.Command:
    @click.command(name, help=f"{target.title}. Every answer is checked.")
    @count("--rounds", 3, "Number of rounds; both arms run in each.")
    @count("--workers", 4, "Number of the engine's workers.")
    @count("--rows", 4000, "Number of rows per query.")
    @count("--batch", 250, "Number of rows per call.")
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
            lambda directory, progress: engines.EngineBench(directory, progress, **options),
            {**options, "seed": seed, "quick": quick},
            path,
        )

    return command


for name, (target, module) in ENGINES.items():
    node.add_command(_engine(name, target, module))
