"""T4: a row of 602,112 bytes. What goes through shared memory costs one copy, or none if it is written in place."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.rounds import run_rounds
from benchmarks.harness.run import MeasuredTarget
from benchmarks.latency.bench import LatencyBench
from benchmarks.sampling import per_round

CALLS_SHARE = 0.25  # these calls take longer, so there are fewer
MODELS = {
    "echo": "broker.models.python.echo:echo",
    "echo_image": "benchmarks.models.functions:echo_image",
    "strided": "benchmarks.models.functions:strided",
}


def arms(address: str) -> list[Arm]:
    image = {"address": address, "model": "echo_image"}
    in_place = "benchmarks.arms.one_worker.broker_call:in_place"
    predict = "benchmarks.arms.one_worker.broker_call:predict"
    return [
        Arm(
            "small_row",
            "broker: predict(x), 512 bytes (T2)",
            predict,
            "echo",
            {"address": address, "model": "echo"},
        ),
        Arm("in_place", "broker: request.run(), input in place", in_place, "image", {**image, "fill": False}),
        Arm(
            "in_place_filled",
            "broker: request[...] = x and run()",
            in_place,
            "image",
            {**image, "fill": True},
        ),
        Arm("predict", "broker: predict(x)", predict, "image", image),
        Arm(
            "memory_copy",
            "one copy of x to shared memory",
            "benchmarks.arms.one_worker.memory_copy:memory_copy",
            "image_copy",
        ),
        Arm("pipe", "Pipe + pickle", "benchmarks.arms.one_worker.pipe:pipe", "image"),
    ]


def measure(bench: LatencyBench) -> TargetResult:
    plan = replace(bench.plan, calls=max(1, round(bench.plan.calls * CALLS_SHARE)))
    with bench.broker("t4", MODELS) as broker:
        series = run_rounds(arms(broker.address), plan, bench.progress)
    small, copy = series["small_row"], series["memory_copy"]
    beyond = per_round(lambda ns, small_ns: (ns - small_ns) / 1e3, series["in_place"], small)
    copies = per_round(
        lambda ns, small_ns, copy_ns: (ns - small_ns) / copy_ns, series["predict"], small, copy
    )
    against_pipe = per_round(lambda ns, pipe_ns: ns / pipe_ns, series["predict"], series["pipe"])
    figures = [
        Figure("in place: beyond the small row", beyond, "us", 10.0),
        Figure("predict(x): beyond the small row, in copies of x", copies, "x", 1.3),
        Figure("predict(x) / Pipe + pickle", against_pipe, "x", None),
    ]
    notes = [
        "All broker arms are adaptive and share one broker.",
        "In place, the input is written before the clock starts; the arm below it has the writing inside.",
        "4 images take turns, 2.4 MB, so that a copy reads memory that a core's own cache does not hold.",
    ]
    return TargetResult(T4.name, T4.title, "us", series, figures, notes)


T4 = MeasuredTarget("T4", "one row of 602 kB (224x224x3 float32) on echo_image", measure)
