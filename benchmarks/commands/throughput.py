"""`python -m benchmarks throughput`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.harness import run
from benchmarks.harness.interleaved import Pace
from benchmarks.harness.options import NamesType, NumbersType, common, seconds, windows
from benchmarks.throughput.bench import ThroughputBench
from benchmarks.throughput.contention import CONTENTION, SURROUNDINGS, WORK_US
from benchmarks.throughput.image import T7
from benchmarks.throughput.neighbour import T8
from benchmarks.throughput.rhythm import RHYTHM
from benchmarks.throughput.small import T3
from benchmarks.throughput.waiting import WAITING

TARGETS = run.named((T3, T7, T8, WAITING, CONTENTION, RHYTHM))
BY_DEFAULT = (T3.name, T7.name, T8.name, WAITING.name)
WARM_UP_SHARE = 0.2
LEAST_WARM_UP_S = 0.1
QUICK = {
    "workers": (2,),
    "windows": 1,
    "seconds": 0.1,
    "beside": ("quiet", "busy1", "quota1"),
    "work_us": (100,),
}


@click.command()
@click.option(
    "--target",
    "names",
    type=NamesType(TARGETS),
    default=",".join(BY_DEFAULT),
    show_default=True,
    help=f"Targets to measure, of {', '.join(TARGETS)}.",
)
@click.option(
    "--workers",
    type=NumbersType(),
    default="1,2,4,8,16",
    show_default=True,
    help="Numbers of workers; each is measured.",
)
@windows(10)
@seconds(1.0)
@click.option(
    "--beside",
    type=NamesType(SURROUNDINGS, "surroundings"),
    default=",".join(SURROUNDINGS),
    show_default=True,
    help="Surroundings to measure for the target company.",
)
@click.option(
    "--work-us",
    type=NumbersType(least=0),
    default=",".join(map(str, WORK_US)),
    show_default=True,
    help="Microseconds that a worker computes between two calls, for the target company.",
)
@common("throughput")
def throughput(
    names: tuple[str, ...],
    workers: tuple[int, ...],
    windows: int,
    seconds: float,
    beside: tuple[str, ...],
    work_us: tuple[int, ...],
    seed: int,
    quick: bool,
    path: Path | None,
) -> None:
    """T3, T7 and T8 of TARGETS.md, and waiting: many workers at once beside the other ways to serve them. If they are
    asked for: company (waiting under contention; an hour) and rhythm (that of a web server; T26).

    Every arm runs in processes of its own, in windows that take turns until the last three are alike; every answer is
    checked. Takes about a quarter of an hour on two cores, which should have nothing else to do.
    """
    options: dict[str, Any] = {"workers": workers, "windows": windows, "seconds": seconds}
    options |= {"beside": beside, "work_us": work_us}
    if quick:
        options |= QUICK
    pace = Pace(options["seconds"], _warm_up_s(options["seconds"]), options["windows"], seed)
    run.run(
        "throughput",
        [TARGETS[name] for name in names],
        lambda directory, progress: ThroughputBench(
            directory, progress, options["workers"], pace, quick, options["beside"], options["work_us"]
        ),
        {
            **{name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
            "seed": seed,
            "quick": quick,
        },
        path,
    )


def _warm_up_s(seconds: float) -> float:
    return max(LEAST_WARM_UP_S, seconds * WARM_UP_SHARE)
