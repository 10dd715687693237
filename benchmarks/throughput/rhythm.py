"""T26: the rhythm of a web server. Workers compute, call once, and pause: what a call costs with caches gone cold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.interleaved import run_interleaved
from benchmarks.harness.run import MeasuredTarget
from benchmarks.rates import RateSeries, by_p50, by_p99, ratio
from benchmarks.throughput.bench import ThroughputBench
from benchmarks.throughput.contenders import ModelPlace, arm
from benchmarks.throughput.contention import working

WORK_MS = (0.2, 1.0, 5.0)
PAUSE_S = 0.001
KINDS = {"broker": "one", "session_run": "default", "bare_callable": "one"}
TARGETS = {"p50": 0.25, "p99": 0.40}
TARGETED_WORKERS = 4


def measure(bench: ThroughputBench) -> TargetResult:
    place = ModelPlace(bench.mlp, str(bench.directory))
    series: dict[str, RateSeries] = {}
    figures: list[Figure] = []
    workers_tried = bench.workers if bench.quick else tuple(n for n in bench.workers if n > 1)
    for work_ms in WORK_MS[:1] if bench.quick else WORK_MS:
        for workers in workers_tried:
            found = run_interleaved(
                _arms(place, workers, work_ms), bench.aside, bench.progress, steady=by_p50
            )
            where = f"{workers:2} workers, {work_ms:g} ms of work"
            series |= {f"{where}: {name}": one for name, one in found.items()}
            figures += _figures(found, where, workers, work_ms)
    note = f"Each worker pauses for about {PAUSE_S * 1000:g} ms, computes, and calls once; only the call is timed."
    return TargetResult(RHYTHM.name, RHYTHM.title, "us", series, figures, [note])


def _arms(place: ModelPlace, workers: int, work_ms: float) -> list[Arm]:
    made = [replace(arm(kind, threads, workers, place), name=kind) for kind, threads in KINDS.items()]
    return [working(each, work_ms / 1e3, PAUSE_S) for each in made]


def _figures(found: Mapping[str, RateSeries], where: str, workers: int, work_ms: float) -> Iterator[Figure]:
    ours, sessions, bare = (found[kind] for kind in KINDS)
    targeted = workers == TARGETED_WORKERS and work_ms <= 1
    for name, pick in (("p50", by_p50), ("p99", by_p99)):
        target = TARGETS[name] if targeted else None
        yield Figure(f"{where}: {name}, broker / Session.run", ratio(ours, sessions, pick), "x", target)
        yield Figure(f"{where}: {name}, broker / bare callable", ratio(ours, bare, pick), "x")


RHYTHM = MeasuredTarget("rhythm", "mlp, one row, in the rhythm of a web server", measure)
