"""T1: one row through a small model, against TensorFlow in the worker's own process and the classic ways around it."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.rounds import run_rounds
from benchmarks.harness.run import MeasuredTarget
from benchmarks.harness.workbench import MODES
from benchmarks.latency.bench import LatencyBench
from benchmarks.sampling import ratio

TITLE = "predict(x) on mlp, one row, one worker"


def arms(path: str, addresses: Mapping[str, str]) -> list[Arm]:
    def arm(name: str, label: str, factory: str) -> Arm:
        return Arm(name, label, f"benchmarks.arms.one_worker.{factory}", "mlp", {"path": path})

    return [
        arm("session_run", "in process: Session.run(out, {in: x})", "session:session_run"),
        arm("make_callable", "in process: Session.make_callable", "session:make_callable"),
        arm("bare_callable", "in process: bare callable, caller's thread", "session:bare_callable"),
        arm("pipe", "Pipe + pickle to the bare callable", "pipe:pipe"),
        arm("unix_socket", "raw Unix socket to the bare callable", "unix_socket:unix_socket"),
        *[
            Arm(
                f"broker_{mode}",
                f"broker: predict(x), {MODES[mode]}",
                "benchmarks.arms.one_worker.broker_call:predict",
                "mlp",
                {"address": address, "model": "mlp", "wait": mode},
            )
            for mode, address in addresses.items()
        ],
    ]


def measure(bench: LatencyBench) -> TargetResult:
    with bench.brokers("t1", {"mlp": bench.mlp}) as addresses:
        series = run_rounds(arms(bench.mlp, addresses), bench.plan, bench.progress)
    ours, session, bare = series["broker_adaptive"], series["session_run"], series["bare_callable"]
    figures = [
        Figure("broker (adaptive) / Session.run", ratio(ours, session), "x", 0.20),
        Figure("broker (adaptive) / bare callable", ratio(ours, bare), "x", None, 2.0),
        Figure("broker (adaptive) / raw Unix socket", ratio(ours, series["unix_socket"]), "x", None),
        Figure("broker (adaptive) / Pipe + pickle", ratio(ours, series["pipe"]), "x", None),
    ]
    note = (
        "Session.run and make_callable have TensorFlow's defaults; every bare callable has one intra-op thread, as "
        "the broker gives to a light model."
    )
    return TargetResult(T1.name, T1.title, "us", series, figures, [note])


T1 = MeasuredTarget("T1", TITLE, measure)
