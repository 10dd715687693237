"""Waiting under contention: three ways to wait and two ways without a broker, on a quiet machine, beside busy processes
and under a quota, with workers that only call and workers that also compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.host.surroundings import QUIET, Surroundings
from benchmarks.harness.interleaved import run_interleaved_in
from benchmarks.harness.run import MeasuredTarget
from benchmarks.harness.workbench import MODES
from benchmarks.rates import RateSeries, by_p99, by_throttled, ratio
from benchmarks.throughput.bench import ThroughputBench
from benchmarks.throughput.contenders import ModelPlace, arm

SURROUNDINGS = {
    each.name: each
    for each in (
        QUIET,
        Surroundings("busy1", "beside 1 busy process", busy=1),
        Surroundings("busy2", "beside 2 busy processes", busy=2),
        Surroundings("nice1", "beside 1 busy process at nice 10", busy=1, nice=10),
        Surroundings("nice2", "beside 2 busy processes at nice 10", busy=2, nice=10),
        Surroundings("quota0.5", "quota of 0.5 CPU", quota=0.5),
        Surroundings("quota1", "quota of 1 CPU", quota=1.0),
        Surroundings("quota1.5", "quota of 1.5 CPU", quota=1.5),
    )
}
WORK_US = (0, 100, 1000)
"""Microseconds that a worker computes between two calls."""

RATE, P99 = 0.95, 1.2
"""T15: beside the better of polling and blocking in the same cell."""
SOCKETS, SESSIONS = "unix_sockets_batching", "session_run"
THREADS = {SOCKETS: "one", SESSIONS: "default"}

Cells = dict[str, dict[str, RateSeries]]


def measure(bench: ThroughputBench) -> TargetResult:
    several = [SURROUNDINGS[name] for name in bench.beside]
    place = ModelPlace(bench.mlp, str(bench.directory))
    series: dict[str, RateSeries] = {}
    figures: list[Figure] = []
    for work_us in bench.work_us:
        for workers in bench.workers:
            found = run_interleaved_in(arms(place, workers, work_us), several, bench.sweep, bench.progress)
            for each in several:
                cell = found[each.name]
                where = f"{workers:2} workers, {_work(work_us)}{each.label}"
                series |= {f"{where}: {name}": _labelled(one, each) for name, one in cell.items()}
                figures += _figures(cell, where, each)
    return TargetResult(CONTENTION.name, CONTENTION.title, "us", series, figures, [_NOTE])


def arms(place: ModelPlace, workers: int, work_us: int, modes: Sequence[str] = tuple(MODES)) -> list[Arm]:
    made = [_waiting(place, workers, mode) for mode in modes]
    made += [replace(arm(kind, threads, workers, place), name=kind) for kind, threads in THREADS.items()]
    return [working(each, work_us / 1e6) for each in made]


def working(arm: Arm, work_s: float, pause_s: float = 0.0) -> Arm:
    """The same with workers that pause and compute between their calls."""
    options = {"factory": arm.factory, "options": arm.options, "pause_s": pause_s, "work_s": work_s}
    return replace(arm, factory="benchmarks.arms.several_workers.paced:paced", options=options)


def _waiting(place: ModelPlace, workers: int, mode: str) -> Arm:
    made = arm("broker", "one", workers, place)
    return replace(made, name=mode, label=f"broker, {MODES[mode]}", options={**made.options, "wait": mode})


def _work(work_us: int) -> str:
    return f"{work_us} us of work between calls, " if work_us else ""


def _labelled(series: RateSeries, surroundings: Surroundings) -> RateSeries:
    series.label = f"{series.label}, {surroundings.label}"
    return series


def _figures(cell: Mapping[str, RateSeries], where: str, surroundings: Surroundings) -> Iterator[Figure]:
    adaptive, better = cell["adaptive"], max((cell["poll"], cell["block"]), key=lambda one: one.per_s.median)
    way = better.name
    yield Figure(f"{where}: answers, adaptive / {way}", ratio(adaptive, better), "x", RATE, at_least=True)
    yield Figure(f"{where}: p99, adaptive / {way}", ratio(adaptive, better, by_p99), "x", P99)
    yield Figure(
        f"{where}: answers, adaptive / raw sockets", ratio(adaptive, cell[SOCKETS]), "x", at_least=True
    )
    yield Figure(
        f"{where}: answers, adaptive / Session.run", ratio(adaptive, cell[SESSIONS]), "x", at_least=True
    )
    if surroundings.quota is not None:
        throttled = adaptive.of(by_throttled), cell["block"].of(by_throttled)
        for name, spread in zip(("adaptive", "block"), throttled):
            yield Figure(f"{where}: throttled in a window, {name}", spread, "s")


_NOTE = (
    "The better of polling and blocking is the one with more answers in the cell. A busy process computes without end. "
    "A quota is one of a control group, for callers and broker together; where no group can be made, processes are "
    "stopped and continued as the kernel would, and no throttled time is known."
)

CONTENTION = MeasuredTarget("company", "waiting beside other work, mlp, one row, closed loop", measure)
