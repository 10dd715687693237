"""`python -m benchmarks aio`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.aio.bench import Bench
from benchmarks.aio.concurrent import AIO
from benchmarks.arms.awaiting import LOOPS
from benchmarks.harness import run
from benchmarks.harness.bout import Pace

WARM_UP_SHARE = 0.3
QUICK = {"tasks": 20, "workers": 2, "windows": 1, "seconds": 0.1}


@click.command()
@click.option("--tasks", default=1000, show_default=True, type=click.IntRange(1), help="Awaits at a time.")
@click.option(
    "--workers", default=8, show_default=True, type=click.IntRange(1), help="Sync workers beside them."
)
@click.option(
    "--windows", default=15, show_default=True, type=click.IntRange(1), help="Of each arm, at most."
)
@click.option(
    "--seconds", default=1.0, show_default=True, type=click.FloatRange(0.05), help="Length of a window."
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the inputs.")
@click.option("--quick", is_flag=True, help="Once and short, to see that it runs: no figures to trust.")
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write all figures; default benchmarks/results/aio-TIME.json.",
)
def aio(
    tasks: int, workers: int, windows: int, seconds: float, seed: int, quick: bool, path: Path | None
) -> None:
    """Many awaits in one process, on asyncio and uvloop, beside eight sync workers: answers a second of a small model.

    Windows of the arms take turns until the last three of each are alike; every answer is checked, and a call that does
    not come back ends the run. Takes about two minutes on two cores, which should have nothing else to do.
    """
    options: dict[str, Any] = {"tasks": tasks, "workers": workers, "windows": windows, "seconds": seconds}
    if quick:
        options = QUICK
    pace = Pace(options["seconds"], max(0.1, options["seconds"] * WARM_UP_SHARE), options["windows"], seed)
    run.run(
        "aio",
        [AIO],
        lambda directory, progress: Bench(
            directory, progress, options["tasks"], options["workers"], tuple(LOOPS), pace
        ),
        {**options, "seed": seed, "quick": quick},
        path,
    )
