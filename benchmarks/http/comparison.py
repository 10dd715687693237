"""T14: requests a second, their times and the memory of one Flask app, by where its answers come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.interleaved import Pace, run_interleaved
from benchmarks.harness.run import MeasuredTarget
from benchmarks.http import starts
from benchmarks.http.bench import HttpBench
from benchmarks.http.contenders import KINDS
from benchmarks.http.starts import Starts
from benchmarks.rates import RateSeries, by_cpu, by_p99, ratio
from benchmarks.sampling import per_round

OTHERS = {"sessions": "sessions", "dirty": "dirty arbiter"}


@dataclass(kw_only=True)
class HttpLoadBench(HttpBench):
    """The bench with the pace of the load."""

    pace: Pace


def measure(bench: HttpLoadBench) -> TargetResult:
    started = bench.started(tuple(KINDS))
    series = run_interleaved(bench.arms(KINDS), bench.pace, bench.progress)
    for name, of_arm in started.items():
        series[name].facts.update(of_arm.facts)
    figures = [figure for name, label in OTHERS.items() for figure in _figures(series, started, name, label)]
    notes = [
        f"{bench.workers} sync workers, which close each connection; {bench.connections} requests under way at a time.",
        f"PSS of the whole tree and start (command to first answer): {bench.rounds} starts with nothing else running.",
        "The load: all servers up, one loaded at a time.",
        "The broker's settings were remembered; on a machine where it has none it measures them first.",
    ]
    return TargetResult(T14.name, T14.title, "ms", series, figures, notes, bench.skipped(KINDS))


def _figures(
    series: Mapping[str, RateSeries], started: Mapping[str, Starts], other: str, label: str
) -> Iterator[Figure]:
    """The broker over another; what that has over the app without a model is the model's cost."""
    if other not in series:
        return
    ours, theirs, bare = series["broker"], series[other], series["bare"]
    memory = 0.45 if other == "sessions" else None
    yield Figure(f"requests/s: broker / {label}", ratio(ours, theirs), "x", 1.0, at_least=True)
    yield Figure(f"p99: broker / {label}", ratio(ours, theirs, by_p99), "x", 1.0)
    yield Figure(
        f"memory: broker / {label}", starts.ratio(started["broker"], started[other], "memory_mb"), "x", memory
    )
    yield Figure(f"start: broker / {label}", starts.ratio(started["broker"], started[other], "start_s"), "x")
    over = per_round(lambda a, b, floor: (a - floor) / (b - floor), ours, theirs, bare, pick=by_cpu)
    yield Figure(f"CPU beyond the app without a model: broker / {label}", over, "x")


T14 = MeasuredTarget("T14", "a Flask app that calls mlp, on gunicorn's sync workers", measure)
