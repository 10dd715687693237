"""`python -m benchmarks reload`, T10: p99 of a light model while a heavy one's next version is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.arms.two_models.neighbours import PAUSE_S
from benchmarks.arms.two_models.reloading import two_versions
from benchmarks.figures import Figure, TargetResult
from benchmarks.harness import run
from benchmarks.harness.arm import Arm
from benchmarks.harness.interleaved import Pace, run_interleaved
from benchmarks.harness.options import common, seconds, windows
from benchmarks.harness.run import MeasuredTarget
from benchmarks.rates import RateSeries, by_p50, by_p99, ratio
from benchmarks.throughput.bench import ThroughputBench

QUICK = {"windows": 1, "seconds": 3.0}
WARM_UP_S = 1.0
LABELS = {
    "quiet": "nothing is loaded",
    "loaded_elsewhere": "mobilenet loaded in another process",
    "next_versions": "mobilenet's next version in the broker",
}


def measure(bench: ThroughputBench) -> TargetResult:
    heavy = two_versions(bench.directory, bench.mobilenet)
    bench.tune(light=bench.mlp, heavy=heavy)
    options = {"directory": str(bench.directory), "light": bench.mlp, "heavy": heavy}
    series = run_interleaved(
        [_arm(name, options) for name in LABELS], bench.pace, bench.progress, steady=by_p99
    )
    note = (
        f"One worker calls mlp about every {PAUSE_S * 1000:g} ms. Meanwhile versions 1 and 2 of mobilenet take over "
        "from each other without a pause: each is loaded, warmed, switched to, and the other drained and unloaded. "
        "beside/s are the versions loaded."
    )
    return TargetResult(T10.name, T10.title, "us", series, _figures(series), [note])


def _arm(name: str, options: dict[str, Any]) -> Arm:
    return Arm(
        name,
        LABELS[name],
        f"benchmarks.arms.two_models.reloading:{name}",
        "mlp",
        options,
        facts={"workers": 1},
    )


def _figures(series: Mapping[str, RateSeries]) -> list[Figure]:
    quiet, elsewhere, here = (series[name] for name in LABELS)
    return [
        Figure("p99 while a version loads / without", ratio(here, quiet, by_p99), "x", 2.0, 1.2),
        Figure("p50 while a version loads / without", ratio(here, quiet, by_p50), "x"),
        Figure("p99 beside a process that loads / without", ratio(elsewhere, quiet, by_p99), "x"),
    ]


T10 = MeasuredTarget("T10", "p99 of one mlp worker while mobilenet gets its next version", measure)


@click.command()
@windows(8)
@seconds(6.0, least=0.5)
@common("reload")
def reload(windows: int, seconds: float, seed: int, quick: bool, path: Path | None) -> None:
    """T10 of TARGETS.md: what callers of one model notice while another gets its next version.

    Every answer is checked. Takes about four minutes on two cores, which should have nothing else to do.
    """
    options: dict[str, Any] = QUICK if quick else {"windows": windows, "seconds": seconds}
    pace = Pace(options["seconds"], WARM_UP_S, options["windows"], seed)
    run.run(
        "reload",
        [T10],
        lambda directory, progress: ThroughputBench(directory, progress, (1,), pace, quick),
        {**options, "seed": seed, "quick": quick},
        path,
    )
