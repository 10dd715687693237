"""T6: how long a forked worker takes to its first answer, with a broker and with a session of its own."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.rounds import run_rounds
from benchmarks.harness.run import MeasuredTarget
from benchmarks.latency.bench import LatencyBench
from benchmarks.sampling import per_round, ratio

MOST_ROUNDS = 3  # a session of its own takes seconds each time
FORKS = 10


def arms(path: str, address: str) -> list[Arm]:
    return [
        Arm(
            "broker",
            "forked worker: predict(x) through the broker",
            "benchmarks.arms.one_worker.first_answer:through_broker",
            "first_row",
            {"address": address, "model": "mlp"},
        ),
        Arm(
            "own_session",
            "forked worker: import tensorflow, load, run",
            "benchmarks.arms.one_worker.first_answer:own_session",
            "first_row",
            {"path": path},
            calls=1 / FORKS,
        ),
    ]


def measure(bench: LatencyBench) -> TargetResult:
    rounds = min(bench.plan.rounds, MOST_ROUNDS)
    plan = replace(bench.plan, rounds=rounds, calls=FORKS, warm_up_share=0.0)
    with bench.broker("t6", {"mlp": bench.mlp}) as broker:
        series = run_rounds(arms(bench.mlp, broker.address), plan, bench.progress)
    figures = [
        Figure("broker / own session", ratio(series["broker"], series["own_session"]), "x", 0.1),
        Figure("broker", per_round(lambda ns: ns / 1e6, series["broker"]), "ms", None, 50.0),
    ]
    notes = ["The parents have numpy and worker_client imported, and the client and its model handle made."]
    return TargetResult(T6.name, T6.title, "ms", series, figures, notes)


T6 = MeasuredTarget("T6", "fork to first answer in a worker, broker running", measure)
