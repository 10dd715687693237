"""`python -m benchmarks losses`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.harness import run
from benchmarks.harness.bout import Pace
from benchmarks.harness.options import common
from benchmarks.harness.rounds import Plan
from benchmarks.losses.cases import ALONE, HUGE, MANY, Bench

CASES = run.named((ALONE, HUGE, MANY))
WARM_UP_S = 0.2
QUICK = {"rounds": 1, "calls": 40, "windows": 1, "seconds": 0.1, "workers": 2}


@click.command()
@click.option(
    "--only", multiple=True, type=click.Choice(list(CASES), case_sensitive=False), help="This case only."
)
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(1), help="Of L1 and L2.")
@click.option("--calls", default=1000, show_default=True, type=click.IntRange(1), help="Calls of a round.")
@click.option("--windows", default=6, show_default=True, type=click.IntRange(1), help="Of L3, at most.")
@click.option("--seconds", default=1.0, show_default=True, type=click.FloatRange(0.05), help="Length of one.")
@click.option("--workers", default=8, show_default=True, type=click.IntRange(1), help="Of L3.")
@common("losses")
def losses(only: tuple[str, ...], seed: int, quick: bool, path: Path | None, **options: Any) -> None:
    """Where the broker loses, and by how much: a callable in the worker itself, huge answers, tiny models on all cores.

    Every answer is checked. Takes about two minutes on two cores, which should have nothing else to do.
    """
    options = dict(QUICK) if quick else options
    plan = Plan(options["rounds"], options["calls"], seed)
    pace = Pace(options["seconds"], WARM_UP_S, options["windows"], seed)
    run.run(
        "losses",
        [CASES[name] for name in CASES if not only or name in only],
        lambda directory, progress: Bench(directory, progress, plan, pace, options["workers"]),
        {**options, "seed": seed, "quick": quick},
        path,
    )
