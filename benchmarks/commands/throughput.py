"""`python -m benchmarks throughput`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.harness import run
from benchmarks.harness.bout import Pace
from benchmarks.harness.options import NumbersType, TargetsType, common
from benchmarks.throughput.bench import Bench
from benchmarks.throughput.image import T7
from benchmarks.throughput.neighbour import T8
from benchmarks.throughput.small import T3
from benchmarks.throughput.waiting import WAITING

TARGETS = run.named((T3, T7, T8, WAITING))
WARM_UP_SHARE = 0.2
LEAST_WARM_UP_S = 0.1
QUICK = {"workers": (2,), "windows": 1, "seconds": 0.1}


@click.command()
@click.option(
    "--target",
    "names",
    type=TargetsType(TARGETS),
    default=",".join(TARGETS),
    show_default=True,
    help="Only these.",
)
@click.option("--workers", type=NumbersType(), default="1,2,4,8,16", show_default=True, help="The sweep.")
@click.option(
    "--windows", default=10, show_default=True, type=click.IntRange(1), help="Of each arm, at most."
)
@click.option(
    "--seconds", default=1.0, show_default=True, type=click.FloatRange(0.05), help="Length of a window."
)
@common("throughput")
def throughput(
    names: tuple[str, ...],
    workers: tuple[int, ...],
    windows: int,
    seconds: float,
    seed: int,
    quick: bool,
    path: Path | None,
) -> None:
    """T3, T7 and T8 of TARGETS.md, and waiting: many workers at once beside the other ways to serve them.

    Every arm runs in processes of its own, in windows that take turns until the last three are alike; every answer is
    checked. Takes about a quarter of an hour on two cores, which should have nothing else to do.
    """
    options: dict[str, Any] = {"workers": workers, "windows": windows, "seconds": seconds}
    if quick:
        options = QUICK
    pace = Pace(options["seconds"], _warm_up_s(options["seconds"]), options["windows"], seed)
    run.run(
        "throughput",
        [TARGETS[name] for name in names],
        lambda directory, progress: Bench(directory, progress, options["workers"], pace, quick),
        {**options, "workers": list(options["workers"]), "seed": seed, "quick": quick},
        path,
    )


def _warm_up_s(seconds: float) -> float:
    return max(LEAST_WARM_UP_S, seconds * WARM_UP_SHARE)
