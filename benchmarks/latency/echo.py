"""T2: the broker's own cost, without TensorFlow, against what two processes need to wake each other."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.figures import Figure, Result
from benchmarks.harness.arm import Arm
from benchmarks.harness.rounds import run_rounds
from benchmarks.latency.bench import MODES, Bench, Target
from benchmarks.sampling import per_round, ratio

MODELS = {"echo": "broker.models.echo:echo"}


def arms(addresses: Mapping[str, str]) -> list[Arm]:
    return [
        *[
            Arm(
                f"broker_{mode}",
                f"broker: predict(x), {MODES[mode]}",
                "benchmarks.arms.broker_call:predict",
                "echo",
                {"address": address, "model": "echo", "wait": mode},
            )
            for mode, address in addresses.items()
        ],
        *[
            Arm(
                f"ping_pong_{mode}",
                f"semaphore ping-pong, {MODES[mode]}",
                "benchmarks.arms.ping_pong:ping_pong",
                "echo",
                {"poll": mode == "poll"},
            )
            for mode in ("poll", "block")
        ],
        Arm("pipe", "Pipe + pickle", "benchmarks.arms.pipe:pipe", "echo"),
        Arm("unix_socket", "raw Unix socket", "benchmarks.arms.unix_socket:unix_socket", "echo"),
    ]


def measure(bench: Bench) -> Result:
    with bench.brokers("t2", MODELS, MODES) as addresses:
        series = run_rounds(arms(addresses), bench.plan, bench.progress)
    polling, blocking = series["broker_poll"], series["broker_block"]
    figures = [
        Figure("broker, polling", per_round(lambda ns: ns / 1e3, polling), "us", 12.0, 6.0),
        Figure(
            "broker, blocking / ping-pong, blocking", ratio(blocking, series["ping_pong_block"]), "x", 1.3
        ),
        Figure("broker, adaptive / polling", ratio(series["broker_adaptive"], polling), "x", None),
        Figure("broker, polling / ping-pong, polling", ratio(polling, series["ping_pong_poll"]), "x", None),
    ]
    return Result(T2.name, T2.title, "us", series, figures)


T2 = Target("T2", "predict(x) on echo, one row, one worker", measure)
