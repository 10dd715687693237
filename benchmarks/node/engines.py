"""T23: what an engine gains by one broker a node. A round is one run of each arm, in turn first and second."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.figures import Figure, Sheet, TargetResult
from benchmarks.harness.run import MeasuredTarget
from benchmarks.harness.workbench import Workbench
from benchmarks.node import job
from benchmarks.node.job import JobOutcome
from benchmarks.node.programs.predictors import BROKER, PER_WORKER
from benchmarks.sampling import Spread

IDLE_SECONDS = 3
CALL_SECONDS = 4
MB = 1_000_000
_LABELS = {BROKER: "broker", PER_WORKER: "without"}

Pair = dict[str, JobOutcome]
Bounds = Sequence[tuple[float | None, float | None]]


@dataclass
class EngineBench(Workbench):
    """`workers` of the engine predict `rows` in batches of `batch`, twice."""

    rounds: int
    workers: int
    rows: int
    batch: int

    @cached_property
    def wide(self) -> str:
        self.progress(0, 1, "exporting the model")
        path = str(self.directory / "wide")
        subprocess.run(
            [sys.executable, "-m", "benchmarks.node.programs.wide", path], cwd=job.ROOT, check=True
        )
        return path

    def pairs(self, engine: str, *arguments: object) -> list[Pair]:
        found: list[Pair] = []
        for round_ in range(self.rounds):
            arms = (PER_WORKER, BROKER) if round_ % 2 else (BROKER, PER_WORKER)
            pair: Pair = {}
            for arm in arms:
                self.progress(round_, self.rounds, f"{engine}, {arm}")
                place = self.directory / f"{round_}{arm[0]}"  # short: Ray makes sockets far below it
                pair[arm] = job.run(engine, (arm, *map(str, arguments)), place)
            found.append(pair)
        return found


def _ratio(pairs: list[Pair], of: Callable[[JobOutcome], float]) -> Spread:
    return Spread.of([of(pair[BROKER]) / of(pair[PER_WORKER]) for pair in pairs])


def _peak(outcome: JobOutcome) -> float:
    return outcome.peak_bytes


def _reported(what: str) -> Callable[[JobOutcome], float]:
    return lambda outcome: float(outcome.report[what])


def _queries(bench: EngineBench, target: MeasuredTarget, engine: str, bounds: Bounds) -> TargetResult:
    """Memory, and the time of two queries."""
    pairs = bench.pairs(engine, bench.wide, bench.rows, bench.workers, bench.batch, IDLE_SECONDS)
    parts = (
        ("peak PSS: broker / a model per worker", _peak),
        ("first query", _reported("first")),
        ("second query", _reported("second")),
    )
    figures = [
        Figure(label, _ratio(pairs, of), "x", *bound)
        for (label, of), bound in zip(parts, bounds, strict=True)
    ]
    mapped = Spread.of([pair[BROKER].peak_tensorflows for pair in pairs])
    figures.append(Figure("processes with TensorFlow", mapped, "", 1))
    return _result(target, pairs, figures, {"first": "first query, s", "second": "second query, s"})


def _rows(bench: EngineBench) -> TargetResult:
    processes = 2 * bench.workers
    pairs = bench.pairs("beam", bench.mlp, processes, CALL_SECONDS, IDLE_SECONDS)
    figures = [
        Figure("a row: broker / MultiProcessShared", _ratio(pairs, _reported("row")), "x", 0.10),
        Figure(f"calls of {processes} processes", _ratio(pairs, _reported("calls")), "x", 5, at_least=True),
        Figure("peak PSS", _ratio(pairs, _peak), "x"),
    ]
    return _result(BEAM, pairs, figures, {"row": "a row, s", "calls": "calls/s"})


def _result(
    target: MeasuredTarget, pairs: list[Pair], figures: list[Figure], reported: dict[str, str]
) -> TargetResult:
    rows = [
        (
            f"{round_ + 1}, {_LABELS[arm]}",
            f"{pair[arm].peak_bytes / MB:,.0f}",
            *(f"{pair[arm].report[each]:.4g}" for each in reported),
        )
        for round_, pair in enumerate(pairs)
        for arm in sorted(pair)
    ]
    sheet = Sheet("each run", ("round", "peak PSS, MB", *reported.values()), rows)
    return TargetResult(target.name, target.title, "ms", {}, figures, sheets=[sheet])


SPARK = MeasuredTarget(
    "T23",
    "Spark: one broker a node against a model per worker",
    lambda bench: _queries(bench, SPARK, "spark", ((0.60, 0.5), (1.3, None), (1.0, 0.8))),
)
RAY = MeasuredTarget(
    "Ray",
    "one broker a node against a model per worker",
    lambda bench: _queries(bench, RAY, "ray", ((None, None),) * 3),
)
BEAM = MeasuredTarget("Beam", "one broker a node against Beam's MultiProcessShared", _rows)
