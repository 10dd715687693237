"""`python -m benchmarks losses`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.harness import run
from benchmarks.harness.interleaved import Pace
from benchmarks.harness.options import common, count, only, seconds
from benchmarks.harness.rounds import RoundPlan
from benchmarks.losses.cases import ALONE, HUGE, MANY, LossesBench

CASES = run.named((ALONE, HUGE, MANY))
WARM_UP_S = 0.2
QUICK = {"rounds": 1, "calls": 40, "windows": 1, "seconds": 0.1, "workers": 2}


@click.command()
@only(CASES, "case")
@count("--rounds", 9, "Number of windows per arm in L1 and L2.")
@count("--calls", 1000, "Number of calls per window in L1 and L2.")
@count("--windows", 6, "Number of windows per arm in L3 at most.")
@seconds(1.0, "Length of a window of L3 in seconds.")
@count("--workers", 8, "Number of workers in L3.")
@common("losses")
def losses(only: tuple[str, ...], seed: int, quick: bool, path: Path | None, **options: Any) -> None:
    """Where the broker loses, and by how much: a callable in the worker itself, huge answers, tiny models on all cores.

    Every answer is checked. Takes about two minutes on two cores, which should have nothing else to do.
    """
    options = dict(QUICK) if quick else options
    plan = RoundPlan(options["rounds"], options["calls"], seed)
    pace = Pace(options["seconds"], WARM_UP_S, options["windows"], seed)
    run.run(
        "losses",
        [CASES[name] for name in CASES if not only or name in only],
        lambda directory, progress: LossesBench(directory, progress, plan, pace, options["workers"]),
        {**options, "seed": seed, "quick": quick},
        path,
    )
