"""`python -m benchmarks latency`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.harness import run
from benchmarks.harness.options import common, count, only
from benchmarks.harness.rounds import RoundPlan
from benchmarks.latency.bench import LatencyBench
from benchmarks.latency.echo import T2
from benchmarks.latency.first_answer import T6
from benchmarks.latency.idle import T9
from benchmarks.latency.large_row import T4
from benchmarks.latency.mlp import T1

TARGETS = run.named((T1, T2, T4, T6, T9))


@click.command()
@only(TARGETS, "target")
@count("--rounds", 9, "Number of windows per arm.")
@count("--calls", 2000, "Number of calls per window.")
@click.option(
    "--idle-seconds",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Length of the idle time of T9 in seconds.",
)
@common("latency", quick=False)
def latency(
    only: tuple[str, ...], rounds: int, calls: int, idle_seconds: float, seed: int, path: Path | None
) -> None:
    """T1, T2, T4, T6 and T9 of TARGETS.md: one worker's calls beside the other ways to make them.

    Every arm runs in processes of its own, in short windows that take turns; every answer is checked. Takes about
    three minutes on two cores, which should have nothing else to do.
    """
    options = {"rounds": rounds, "calls": calls, "idle_seconds": idle_seconds, "seed": seed}
    chosen = [TARGETS[name] for name in TARGETS if not only or name in only]
    plan = RoundPlan(rounds, calls, seed)
    run.run(
        "latency",
        chosen,
        lambda directory, progress: LatencyBench(directory, progress, plan, idle_seconds),
        options,
        path,
    )
