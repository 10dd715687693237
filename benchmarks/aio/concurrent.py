"""Many awaits in one process against the sync workers that they stand for."""

from __future__ import annotations

from benchmarks.aio.bench import Bench
from benchmarks.figures import Figure, Result
from benchmarks.harness.arm import Arm
from benchmarks.harness.bout import run_bout
from benchmarks.harness.run import Target
from benchmarks.rates import by_cpu, ratio
from benchmarks.throughput.broker_facts import batches

LEAST = 0.8
"""Of the sync workers' answers a second."""


def measure(bench: Bench) -> Result:
    series = run_bout(
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
    return Result(AIO.name, AIO.title, "us", series, figures, notes)


def _sync(bench: Bench) -> Arm:
    options = {
        "directory": str(bench.directory),
        "models": bench.models,
        "model": "mlp",
        "workers": bench.workers,
    }
    label = f"{bench.workers} sync workers"
    facts = {"workers": bench.workers}
    return Arm("sync", label, "benchmarks.arms.brokered:brokered", "mlp", options, facts=facts)


def _awaiting(bench: Bench, loop: str) -> Arm:
    options = {
        "directory": str(bench.directory),
        "models": bench.models,
        "model": "mlp",
        "tasks": bench.tasks,
        "loop": loop,
    }
    label = f"{bench.tasks:,} awaits in one process, {loop}"
    return Arm(loop, label, "benchmarks.arms.awaiting:awaiting", "mlp", options, facts={"workers": 1})


AIO = Target("aio", "mlp, one row, closed loop; an event loop beside sync workers", measure)
