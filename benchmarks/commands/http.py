"""`python -m benchmarks http`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.harness import run
from benchmarks.harness.bout import Pace
from benchmarks.harness.options import common
from benchmarks.http.comparison import T14, LoadBench

WARM_UP_SHARE = 0.2
QUICK = {"workers": 2, "connections": 4, "rounds": 1, "windows": 1, "seconds": 0.2}


@click.command()
@click.option("--workers", default=4, show_default=True, type=click.IntRange(1), help="Of gunicorn.")
@click.option(
    "--connections",
    default=8,
    show_default=True,
    type=click.IntRange(1),
    help="Requests under way at a time.",
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Starts of each arm.")
@click.option(
    "--windows", default=10, show_default=True, type=click.IntRange(1), help="Of load, of each arm, at most."
)
@click.option(
    "--seconds", default=2.0, show_default=True, type=click.FloatRange(0.05), help="Length of a window."
)
@common("http")
def http(quick: bool, seed: int, path: Path | None, **options: Any) -> None:
    """T14 of TARGETS.md: a Flask app on gunicorn, with a session in each worker, a dirty arbiter, a broker, no model.

    First the arms are started one at a time, in rounds: memory, and time to the first answer. Then all are up, and
    windows of load take turns until the last three are alike. Every answer is checked. Takes about four minutes on two
    cores, which should have nothing else to do.
    """
    options = QUICK if quick else options
    pace = Pace(options["seconds"], options["seconds"] * WARM_UP_SHARE, options["windows"], seed)
    sizes = (options["workers"], options["connections"], options["rounds"])
    run.run(
        "http",
        [T14],
        lambda directory, progress: LoadBench(directory, progress, *sizes, seed, quick, pace=pace),
        {**options, "seed": seed, "quick": quick},
        path,
    )
