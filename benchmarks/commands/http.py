"""`python -m benchmarks http`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.harness import run
from benchmarks.harness.interleaved import Pace
from benchmarks.harness.options import common, count, seconds, windows
from benchmarks.http.comparison import T14, HttpLoadBench

WARM_UP_SHARE = 0.2
QUICK = {"workers": 2, "connections": 4, "rounds": 1, "windows": 1, "seconds": 0.2}


@click.command()
@count("--workers", 4, "Number of gunicorn workers.")
@count("--connections", 8, "Number of concurrent requests.")
@count("--rounds", 3, "Number of times each arm is started.")
@windows(10)
@seconds(2.0)
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
        lambda directory, progress: HttpLoadBench(directory, progress, *sizes, seed, quick, pace=pace),
        {**options, "seed": seed, "quick": quick},
        path,
    )
