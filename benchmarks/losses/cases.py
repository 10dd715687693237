"""L1 to L3: the cases in which something else is faster than the broker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.interleaved import Pace, run_interleaved
from benchmarks.harness.modules import run_module
from benchmarks.harness.rounds import RoundPlan, run_rounds
from benchmarks.harness.run import MeasuredTarget
from benchmarks.harness.workbench import Workbench
from benchmarks.rates import RateSeries, by_cpu, ratio
from benchmarks.sampling import Series
from benchmarks.sampling import ratio as time_ratio
from benchmarks.throughput.contenders import ModelPlace
from benchmarks.throughput.contenders import arm as contender

HEAD = "benchmarks.models.functions:head"
PREDICT = "benchmarks.arms.one_worker.broker_call:predict"
HUGE_BYTES = 1 << 29
"""Shared memory that a worker may have, for answers of 64 MiB."""
HUGE_SHARE = 0.01  # of the calls: each takes tens of milliseconds


@dataclass
class LossesBench(Workbench):
    plan: RoundPlan
    pace: Pace
    workers: int


def alone(bench: LossesBench) -> TargetResult:
    """L1. A call in the caller's own process needs no other process."""
    with bench.broker("l1", {"mlp": bench.mlp, "head": HEAD}) as broker:
        through = {"address": broker.address}
        series = run_rounds(
            [
                Arm(
                    "callable",
                    "in process: bare callable",
                    "benchmarks.arms.one_worker.session:bare_callable",
                    "mlp",
                    {"path": bench.mlp},
                ),
                Arm("broker_mlp", "broker: predict(x), mlp", PREDICT, "mlp", {**through, "model": "mlp"}),
                Arm("function", "in process: a Python function", "benchmarks.losses.arms:function", "head"),
                Arm(
                    "broker_head",
                    "broker: predict(x), that function",
                    PREDICT,
                    "head",
                    {**through, "model": "head"},
                ),
            ],
            bench.plan,
            bench.progress,
        )
    figures = [
        _times("one worker, mlp: broker / bare callable", series["broker_mlp"], series["callable"]),
        _times("one worker, a function: broker / calling it", series["broker_head"], series["function"]),
    ]
    note = (
        "What is lost is the way there and back, whatever the model: check, copy, two hand-overs, read, copy."
    )
    return TargetResult(ALONE.name, ALONE.title, "us", series, figures, [note])


def huge(bench: LossesBench) -> TargetResult:
    """L2. What TensorFlow gives to its caller without a copy has to be copied into shared memory."""
    path = str(bench.directory / "huge")
    bench.progress(0, 1, "exporting the model")
    run_module("export the model with huge answers", "benchmarks.losses.huge_model", path)
    plan = replace(bench.plan, calls=max(2, round(bench.plan.calls * HUGE_SHARE)))
    model = {"source": path, "intra_op_threads": 1, "max_batch_size": 1}
    with bench.broker(
        "l2", {"huge": model}, max_channel_bytes=HUGE_BYTES, max_total_bytes=2 * HUGE_BYTES, tune="off"
    ) as broker:
        arms = [
            _huge("in_process", "in process: bare callable", path=path),
            _huge("predict", "broker: predict(x)", address=broker.address),
            _huge("in_place", "broker: request.run(), a view", address=broker.address),
        ]
        series = run_rounds(arms, plan, bench.progress)
    bare = series["in_process"]
    figures = [
        _times("64 MiB answered: broker, predict(x) / bare callable", series["predict"], bare),
        _times("64 MiB answered: broker, a view / bare callable", series["in_place"], bare),
    ]
    note = "predict(x) copies the answer into shared memory and out of it; a view only into it; in process nothing is."
    return TargetResult(HUGE.name, HUGE.title, "ms", series, figures, [note])


def _times(label: str, one: Series, other: Series) -> Figure:
    return Figure(label, time_ratio(one, other), "x")


def _huge(name: str, label: str, **options: str) -> Arm:
    return Arm(name, label, f"benchmarks.losses.arms:huge_{name}", "huge", options)


def many(bench: LossesBench) -> TargetResult:
    """L3. Processes that share nothing use every core; one broker's thread uses one."""
    series = run_interleaved(list(_many(bench)), bench.pace, bench.progress)
    return TargetResult(
        MANY.name, MANY.title, "us", series, list(_shares(series, bench.workers)), _why(series, bench.workers)
    )


def _many(bench: LossesBench) -> Iterator[Arm]:
    place, workers = ModelPlace(bench.mlp, str(bench.directory)), bench.workers
    yield contender("broker", "one", workers, place)
    yield contender("bare_callable", "one", workers, place)
    yield contender("bare_callable", "one", 1, place)
    yield contender("session_run", "default", workers, place)
    each = {"factory": "benchmarks.losses.arms:function", "options": {}, "workers": workers}
    yield Arm(
        "function",
        "in process: a Python function",
        "benchmarks.arms.several_workers.each:each",
        "head",
        each,
        facts={"workers": workers},
    )
    brokered = {
        "directory": str(bench.directory),
        "models": {"head": {"source": HEAD}},
        "model": "head",
        "workers": workers,
    }
    yield Arm(
        "broker-head",
        "broker, that function",
        "benchmarks.arms.several_workers.brokered:brokered",
        "head",
        brokered,
        facts={"workers": workers},
    )


def _shares(series: Mapping[str, RateSeries], workers: int) -> Iterator[Figure]:
    bare, sessions = series[f"bare_callable-one-{workers}"], series[f"session_run-default-{workers}"]
    broker = series[f"broker-one-{workers}"]

    def figure(label: str, one: RateSeries, other: RateSeries) -> Figure:
        return Figure(f"{workers} workers: {label}", ratio(one, other), "x", at_least=True)

    yield figure("broker / bare callable in each", broker, bare)
    yield figure("a function: broker / calling it", series["broker-head"], series["function"])
    yield figure("broker / Session.run in each", broker, sessions)
    yield figure("bare callable / Session.run, no transport at all", bare, sessions)
    alone = series["bare_callable-one-1"]
    yield Figure(
        f"CPU for an answer of the bare callable: {workers} workers / one", ratio(bare, alone, by_cpu), "x"
    )


def _why(series: Mapping[str, RateSeries], workers: int) -> list[str]:
    def cpu_us(name: str) -> float:
        return 1000 * series[name].of(by_cpu).median

    cpu = (
        f"CPU for an answer: bare callable {cpu_us('bare_callable-one-1'):.1f} us in one process, "
        f"{cpu_us(f'bare_callable-one-{workers}'):.1f} us in {workers}; broker {cpu_us(f'broker-one-{workers}'):.1f} "
        f"us, its workers' included; Session.run {cpu_us(f'session_run-default-{workers}'):.1f} us."
    )
    why = (
        "Where more processes take more CPU for the same answer than one, the cores are threads of one physical core, "
        "and no transport can reach what the callable does not reach without one."
    )
    return [cpu, why]


ALONE = MeasuredTarget("L1", "where the broker loses: one worker, and a callable in its own process", alone)
HUGE = MeasuredTarget("L2", "where the broker loses: answers of 64 MiB", huge)
MANY = MeasuredTarget("L3", "where the broker loses: many workers and a model of a few microseconds", many)
