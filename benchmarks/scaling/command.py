"""`python -m benchmarks scaling`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.harness import run
from benchmarks.harness.bout import Pace
from benchmarks.harness.options import common
from benchmarks.scaling.sweep import SCALING, Bench
from benchmarks.throughput.command import NumbersType

WARM_UP_S = 0.2
QUICK = {"workers": (1, 2), "rows": (1, 16), "times": 20, "windows": 1, "seconds": 0.1}


@click.command()
@click.option("--workers", type=NumbersType(), default="1,2,4,8,16", show_default=True, help="The sweep.")
@click.option("--rows", type=NumbersType(), default="1,16", show_default=True, help="Of a request.")
@click.option(
    "--times", default=500, show_default=True, type=click.IntRange(10), help="That each stage is timed."
)
@click.option("--windows", default=4, show_default=True, type=click.IntRange(1), help="Of each arm, at most.")
@click.option(
    "--seconds", default=0.5, show_default=True, type=click.FloatRange(0.05), help="Length of a window."
)
@common("scaling")
def scaling(seed: int, quick: bool, path: Path | None, **options: Any) -> None:
    """Predict the broker's throughput from what its stages cost, and measure it.

    Times the stages of one request, each by itself; predicts from them, by mean value analysis and by simulation, a
    sweep over workers and rows; measures that sweep; and says where one broker saturates on 16 and on 64 cores. Takes
    about two minutes on two cores, which should have nothing else to do.
    """
    options = dict(QUICK) if quick else options
    pace = Pace(options["seconds"], WARM_UP_S, options["windows"], seed)
    run.run(
        "scaling",
        [SCALING],
        lambda directory, progress: Bench(
            directory, progress, options["workers"], options["rows"], options["times"], pace
        ),
        {
            **options,
            "workers": list(options["workers"]),
            "rows": list(options["rows"]),
            "seed": seed,
            "quick": quick,
        },
        path,
    )
