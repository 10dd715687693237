"""T8: how much a heavy model in the same broker delays a light model's callers, beyond the cost of a busy machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.arms.several_workers.brokered import settings
from benchmarks.arms.two_models.neighbours import PAUSE_S
from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import Arm
from benchmarks.harness.interleaved import run_interleaved
from benchmarks.harness.run import MeasuredTarget
from benchmarks.models import exporting
from benchmarks.rates import RateSeries, by_longest, by_p99, ratio
from benchmarks.throughput.bench import ThroughputBench
from broker.host.processors import cores

WINDOWS = 2.0
"""Its windows are this many times longer than others: a p99 needs a thousand calls and more."""

UNEVEN = {
    "jpegs": "JPEGs to decode, where an empty string is illegal",
    "convolutional": "a fully convolutional model",
    "unexported": "fetches of a session that are no signatures",
    "one_in_twenty": "a function of which one request in twenty takes 100 ms",
    "in_python": "a function that computes in Python",
}
"""Models that warm-up takes for lighter than they are, and one that threads do not help."""
FUNCTIONS = ("one_in_twenty", "in_python")


@dataclass(frozen=True)
class HeavySettings:
    """How the broker runs the heavy model, so that the other process can run it in the same way."""

    threads: int
    side_by_side: int

    @classmethod
    def chosen_by(cls, bench: ThroughputBench, models: Mapping[str, Any]) -> HeavySettings:
        """The settings that a broker chooses for it."""
        bench.tune(**models)
        with bench.broker("t8", models, tune="remembered") as broker:
            heavy = settings(broker.address)["heavy"]
        return cls(heavy.get("intra_op_threads") or cores(), heavy.get("max_concurrency") or 1)


def arms(light: str, heavy: str, directory: str, how: HeavySettings) -> list[Arm]:
    def arm(name: str, label: str, **options: Any) -> Arm:
        options = {"directory": directory, "light": light, **options}
        return Arm(
            name, label, f"benchmarks.arms.two_models.neighbours:{name}", "mlp", options, facts={"workers": 1}
        )

    return [
        arm("alone", "mlp, the machine idle"),
        arm(
            "beside_a_process",
            "mlp, mobilenet in another process",
            heavy=heavy,
            threads=how.threads,
            side_by_side=how.side_by_side,
        ),
        arm("in_one_broker", "both in one broker", heavy=heavy, workers=how.side_by_side + 1),
    ]


def uneven_arms(light: str, directory: str) -> list[Arm]:
    sources = {kind: f"{directory}/{kind}" for kind in UNEVEN if kind not in FUNCTIONS}
    exporting.export(sources)
    sources |= {kind: f"benchmarks.models.functions:{kind}" for kind in FUNCTIONS}
    return [
        Arm(
            kind,
            f"mlp, beside {label}",
            "benchmarks.arms.two_models.uneven:beside_uneven",
            "mlp",
            {"directory": directory, "light": light, "kind": kind, "source": sources[kind]},
            facts={"workers": 1},
        )
        for kind, label in UNEVEN.items()
    ]


def measure(bench: ThroughputBench) -> TargetResult:
    models = {"light": bench.mlp, "heavy": bench.mobilenet}
    how = HeavySettings(cores(), 1) if bench.quick else HeavySettings.chosen_by(bench, models)
    alone, *compared = arms(bench.mlp, bench.mobilenet, str(bench.directory), how)
    compared += uneven_arms(bench.mlp, str(bench.directory))
    chosen = compared if bench.quick else [alone, *compared]
    series = run_interleaved(chosen, bench.longer(WINDOWS), bench.progress, steady=by_p99)
    note = (
        f"One worker calls mlp about every {PAUSE_S * 1000:g} ms. mobilenet runs batches of 4 rows flat out, in both "
        f"places with {how.threads} intra-op threads and {how.side_by_side} at a time; beside/s are those batches."
    )
    uneven = (
        "The others are models that warm-up takes for lighter than their requests are. Run on the intake thread, each "
        "request would add tens of milliseconds to the call of mlp that waits. What computes in Python shares the "
        "interpreter's lock with the intake, whatever thread it has."
    )
    return TargetResult(T8.name, T8.title, "us", series, _figures(series), [note, uneven])


def _figures(series: Mapping[str, RateSeries]) -> list[Figure]:
    ours, other = series["in_one_broker"], series["beside_a_process"]
    figures = [
        Figure("p99 in one broker / beside another process", ratio(ours, other, by_p99), "x", 3.0, 1.5)
    ]
    if "alone" in series:
        idle = ratio(other, series["alone"], by_p99)
        figures.append(Figure("p99 beside another process / machine idle", idle, "x"))
        for kind in ("alone", *UNEVEN):
            longest = series[kind].of(lambda window: by_longest(window) / 1e6)
            figures.append(Figure(f"longest wait, {series[kind].label}", longest, "ms"))
    return figures


T8 = MeasuredTarget("T8", "p99 of one mlp worker while mobilenet runs flat out", measure)
