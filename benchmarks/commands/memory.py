"""`python -m benchmarks memory`, T5 and T6: eight workers of gunicorn with one broker, a session each, no model at all.

Both come from the same starts. All workers are forked at the same time, from a parent that has the app, numpy and the
client imported (gunicorn's `--preload`), and TensorFlow never.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness import run
from benchmarks.harness.options import common, count
from benchmarks.harness.run import MeasuredTarget
from benchmarks.http import starts
from benchmarks.http.bench import HttpBench
from benchmarks.http.contenders import KINDS
from benchmarks.sampling import per_round, ratio

QUICK = {"workers": 2, "rounds": 1}
COMPARED = ("bare", "sessions", "broker")


def measure_memory(bench: HttpBench) -> TargetResult:
    found = bench.started(COMPARED)
    bare, sessions, broker = (found[name] for name in COMPARED)
    over_bare = starts.per_round(lambda ours, none: ours - none, "worker_mb", broker, bare)
    figures = [
        Figure("whole tree: broker / sessions", starts.ratio(broker, sessions, "memory_mb"), "x", 0.40, 0.33),
        Figure("a worker with the broker over a bare one", over_bare, "MB", 25.0),
        *(Figure(f"whole tree: {KINDS[name].label}", found[name].of("memory_mb"), "MB") for name in COMPARED),
        *(Figure(f"a worker: {KINDS[name].label}", found[name].of("worker_mb"), "MB") for name in COMPARED),
    ]
    last = broker.rounds[-1]["others_mb"]
    notes = [
        f"PSS, after {bench.workers} workers have answered, with nothing else running; {bench.rounds} starts each.",
        f"Beside its workers, the broker's tree has processes of {', '.join(f'{mb:g}' for mb in last)} MB.",
    ]
    return TargetResult(T5.name, f"{T5.title}, {bench.workers} workers", "ms", {}, figures, notes)


def measure_first_answer(bench: HttpBench) -> TargetResult:
    found = bench.started(COMPARED)
    series = {name: found[name].first_answers() for name in COMPARED}
    figures = [
        Figure("broker / sessions", ratio(series["broker"], series["sessions"]), "x", 0.1),
        Figure("broker", per_round(lambda ns: ns / 1e6, series["broker"]), "ms", None, 50.0),
    ]
    notes = [f"{bench.workers} workers forked at once; `latency --only T6` has one at a time."]
    return TargetResult(T6.name, f"{T6.title}, {bench.workers} workers", "ms", series, figures, notes)


T5 = MeasuredTarget("T5", "memory of a server, mlp", measure_memory)
T6 = MeasuredTarget("T6", "fork to first answer in gunicorn's workers, broker running", measure_first_answer)


@click.command()
@count("--workers", 8, "Number of gunicorn workers.")
@count("--rounds", 3, "Number of times each arm is started.")
@common("memory")
def memory(workers: int, rounds: int, seed: int, quick: bool, path: Path | None) -> None:
    """T5 and T6 of TARGETS.md: memory of a server with eight workers, and their time from fork to first answer.

    Arms are started one at a time, in rounds; every answer is checked. Takes about two minutes on two cores.
    """
    sizes = QUICK if quick else {"workers": workers, "rounds": rounds}
    connections = 2 * sizes["workers"]
    run.run(
        "memory",
        [T5, T6],
        lambda directory, progress: HttpBench(
            directory, progress, sizes["workers"], connections, sizes["rounds"], seed, quick
        ),
        {**sizes, "seed": seed, "quick": quick},
        path,
    )
