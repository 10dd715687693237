"""`python -m benchmarks reload`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.harness import run
from benchmarks.harness.bout import Pace
from benchmarks.reload.next_version import T10
from benchmarks.throughput.bench import Bench

QUICK = {"windows": 1, "seconds": 3.0}
WARM_UP_S = 1.0


@click.command()
@click.option("--windows", default=8, show_default=True, type=click.IntRange(1), help="Of each arm, at most.")
@click.option(
    "--seconds", default=6.0, show_default=True, type=click.FloatRange(0.5), help="Length of a window."
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the inputs.")
@click.option("--quick", is_flag=True, help="One window each, to see that it runs: no figures to trust.")
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write all figures; default benchmarks/results/reload-TIME.json.",
)
def reload(windows: int, seconds: float, seed: int, quick: bool, path: Path | None) -> None:
    """T10 of TARGETS.md: what callers of one model notice while another gets its next version.

    Every answer is checked. Takes about four minutes on two cores, which should have nothing else to do.
    """
    options: dict[str, Any] = QUICK if quick else {"windows": windows, "seconds": seconds}
    pace = Pace(options["seconds"], WARM_UP_S, options["windows"], seed)
    run.run(
        "reload",
        [T10],
        lambda directory, progress: Bench(directory, progress, (1,), pace, quick),
        {**options, "seed": seed, "quick": quick},
        path,
    )
