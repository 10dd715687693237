"""Adaptive waiting compared with always polling and always blocking, from an idle core to eight workers per core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.arms.one_worker.session import ONE_THREAD
from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.interleaved import run_interleaved
from benchmarks.harness.run import MeasuredTarget
from benchmarks.harness.workbench import MODES
from benchmarks.rates import RateSeries, beside_best, best
from benchmarks.throughput.bench import ThroughputBench

NEAR = 0.95
"""The least share of the better one's rate: adapting costs trials of the worse one."""


def measure(bench: ThroughputBench) -> TargetResult:
    models: dict[str, Any] = {"head": {"source": "benchmarks.models.functions:head"}}
    if not bench.quick:
        models["mlp"] = {"source": bench.mlp, "intra_op_threads": ONE_THREAD}
    series: dict[str, RateSeries] = {}
    for model, source in models.items():
        for workers in bench.workers:
            arms = [_arm(bench, model, source, workers, mode) for mode in MODES]
            series |= run_interleaved(arms, bench.sweep, bench.progress)
    figures = [_figure(series, model, workers) for model in models for workers in bench.workers]
    note = "head answers with a view of its input, so that what is left is the broker's own cost."
    return TargetResult(WAITING.name, WAITING.title, "us", series, figures, [note])


def _arm(bench: ThroughputBench, model: str, source: dict[str, Any], workers: int, mode: str) -> Arm:
    options = {
        "workers": workers,
        "directory": str(bench.directory),
        "models": {model: source},
        "model": model,
        "wait": mode,
    }
    facts = {"workers": workers, "model": model, "wait": mode}
    label = f"{model}, {MODES[mode]}"
    return Arm(
        _name(model, mode, workers),
        label,
        "benchmarks.arms.several_workers.brokered:brokered",
        model,
        options,
        facts=facts,
    )


def _name(model: str, mode: str, workers: int) -> str:
    return f"{model}-{mode}-{workers}"


def _figure(series: Mapping[str, RateSeries], model: str, workers: int) -> Figure:
    adaptive, *others = (series[_name(model, mode, workers)] for mode in MODES)
    better = best(*others)
    label = f"{model}, {workers:2} workers: adaptive / {better.facts['wait']}"
    return Figure(label, beside_best(adaptive, *others), "x", NEAR, at_least=True)


WAITING = MeasuredTarget("waiting", "broker and workers waiting for each other in three ways", measure)
