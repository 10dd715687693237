"""T2: the broker's own cost, without TensorFlow, against what two processes need to wake each other."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.host import affinity
from benchmarks.harness.rounds import run_rounds
from benchmarks.harness.run import MeasuredTarget
from benchmarks.harness.workbench import MODES
from benchmarks.latency.bench import LatencyBench
from benchmarks.sampling import Series, per_round, ratio

MODELS = {"echo": "broker.models.python.echo:echo"}


def arms(addresses: Mapping[str, str]) -> list[Arm]:
    return [
        *[_predict(f"broker_{mode}", MODES[mode], addresses[mode], mode) for mode in MODES],
        *[_ping_pong(f"ping_pong_{mode}", MODES[mode], poll=mode == "poll") for mode in ("poll", "block")],
        Arm("pipe", "Pipe + pickle", "benchmarks.arms.one_worker.pipe:pipe", "echo"),
        Arm("unix_socket", "raw Unix socket", "benchmarks.arms.one_worker.unix_socket:unix_socket", "echo"),
    ]


def arms_on_two_cores(address: str) -> list[Arm]:
    """Both sides block, each on a core of its own, so that each hand-over wakes a sleeping core."""
    return [
        _predict("broker_block_two_cores", "blocking, two cores", address, "block", pinned=True),
        _ping_pong("ping_pong_block_two_cores", "blocking, two cores", poll=False, pinned=True),
    ]


def _predict(name: str, how: str, address: str, mode: str, **more: bool) -> Arm:
    options = {"address": address, "model": "echo", "wait": mode, **more}
    return Arm(
        name, f"broker: predict(x), {how}", "benchmarks.arms.one_worker.broker_call:predict", "echo", options
    )


def _ping_pong(name: str, how: str, **options: bool) -> Arm:
    return Arm(
        name, f"semaphore ping-pong, {how}", "benchmarks.arms.one_worker.ping_pong:ping_pong", "echo", options
    )


def measure(bench: LatencyBench) -> TargetResult:
    with (
        bench.brokers("t2", MODELS) as addresses,
        bench.broker("t2-two-cores", MODELS, wait="block") as pinned,
    ):
        chosen = arms(addresses)
        if affinity.TWO_CORES:
            affinity.pin(affinity.OTHER, pinned.pid)
            chosen += arms_on_two_cores(pinned.address)
        series = run_rounds(chosen, bench.plan, bench.progress)
    note = (
        "Where the scheduler may choose, two processes that block in turns end up on one core, or on two, and stay "
        "there; the arms on two cores are pinned, and so are what the target for blocking speaks of."
    )
    return TargetResult(T2.name, T2.title, "us", series, _figures(series), [note])


def _figures(series: Mapping[str, Series]) -> list[Figure]:
    polling, blocking = series["broker_poll"], series["broker_block"]
    figures = [Figure("broker, polling", per_round(lambda ns: ns / 1e3, polling), "us", 12.0, 6.0)]
    pinned, pinned_ping_pong = series.get("broker_block_two_cores"), series.get("ping_pong_block_two_cores")
    if pinned and pinned_ping_pong:
        label = "broker / ping-pong, both blocking, two cores"
        figures.append(Figure(label, ratio(pinned, pinned_ping_pong), "x", 1.3))
    return [
        *figures,
        Figure("the same, left to the scheduler", ratio(blocking, series["ping_pong_block"]), "x", None),
        Figure("broker, adaptive / polling", ratio(series["broker_adaptive"], polling), "x", None),
        Figure("broker, polling / ping-pong, polling", ratio(polling, series["ping_pong_poll"]), "x", None),
    ]


T2 = MeasuredTarget("T2", "predict(x) on echo, one row, one worker", measure)
