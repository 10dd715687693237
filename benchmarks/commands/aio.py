"""`python -m benchmarks aio`: many awaits in one process against the sync workers that they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.arms.one_worker.session import ONE_THREAD
from benchmarks.arms.several_workers.awaiting import LOOPS
from benchmarks.figures import Figure, TargetResult
from benchmarks.harness import run
from benchmarks.harness.arm import Arm
from benchmarks.harness.interleaved import Pace, run_interleaved
from benchmarks.harness.options import common, count, seconds, windows
from benchmarks.harness.run import MeasuredTarget
from benchmarks.harness.workbench import Workbench
from benchmarks.rates import by_cpu, ratio
from benchmarks.throughput.broker_facts import batches

LEAST = 0.8
"""The least share of the sync workers' answers per second."""
WARM_UP_SHARE = 0.3
QUICK = {"tasks": 20, "workers": 2, "windows": 1, "seconds": 0.1}


@dataclass
class AioBench(Workbench):
    tasks: int
    workers: int
    loops: tuple[str, ...]
    pace: Pace

    @property
    def models(self) -> dict[str, Any]:
        """The models of all arms, with one intra-op thread: best for a light model, so that it needs no tuning."""
        return {"mlp": {"source": self.mlp, "intra_op_threads": ONE_THREAD}}


def measure(bench: AioBench) -> TargetResult:
    series = run_interleaved(
        [_sync(bench), *(_awaiting(bench, loop) for loop in bench.loops)], bench.pace, bench.progress
    )
    sync, loops = series["sync"], [series[loop] for loop in bench.loops]
    figures = [
        *(
            Figure(f"{one.label} / {sync.label}", ratio(one, sync), "x", LEAST, at_least=True)
            for one in loops
        ),
        *(Figure(f"CPU of {one.label} / {sync.label}", ratio(one, sync, by_cpu), "x") for one in loops),
    ]
    notes = [
        "Every answer was checked, and every call that was begun in a window came back: else there is no figure.",
        "A worker has 64 slots at most: what is above them waits for its turn in the loop, which is part of its time.",
        *(f"{one.label}: {batches(one.batch_rows)}" for one in (sync, *loops)),
    ]
    return TargetResult(AIO.name, AIO.title, "us", series, figures, notes)


def _sync(bench: AioBench) -> Arm:
    options = {
        "directory": str(bench.directory),
        "models": bench.models,
        "model": "mlp",
        "workers": bench.workers,
    }
    label = f"{bench.workers} sync workers"
    facts = {"workers": bench.workers}
    return Arm(
        "sync", label, "benchmarks.arms.several_workers.brokered:brokered", "mlp", options, facts=facts
    )


def _awaiting(bench: AioBench, loop: str) -> Arm:
    options = {
        "directory": str(bench.directory),
        "models": bench.models,
        "model": "mlp",
        "tasks": bench.tasks,
        "loop": loop,
    }
    label = f"{bench.tasks:,} awaits in one process, {loop}"
    return Arm(
        loop, label, "benchmarks.arms.several_workers.awaiting:awaiting", "mlp", options, facts={"workers": 1}
    )


AIO = MeasuredTarget("aio", "mlp, one row, closed loop; an event loop beside sync workers", measure)


@click.command()
@count("--tasks", 1000, "Number of concurrent awaits.")
@count("--workers", 8, "Number of sync workers to compare with.")
@windows(15)
@seconds(1.0)
@common("aio")
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
        lambda directory, progress: AioBench(
            directory, progress, options["tasks"], options["workers"], tuple(LOOPS), pace
        ),
        {**options, "seed": seed, "quick": quick},
        path,
    )
