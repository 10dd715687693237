"""T11: SIGKILL for the broker's process while workers wait for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic_ns

from benchmarks import workloads
from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.arm import ArmFailed
from benchmarks.harness.run import MeasuredTarget
from benchmarks.harness.workbench import Workbench
from benchmarks.recovery import caller
from benchmarks.recovery.caller import CallerProcess, Met
from benchmarks.sampling import LatencyWindow, Series, Spread
from broker import Broker
from broker.bench.load.samples import nearest_rank

WARM_CALLS = 200
"""Calls of each caller before the kill, and after it of the callers that continue."""
CALLS_AFTER = 20
SETTLED = {"tune": "off"}
"""The settings of the model are not what is measured."""


@dataclass
class RecoveryBench(Workbench):
    """`callers` of each sort call in a closed loop while a broker is killed; each of the `kills` has its own broker."""

    kills: int
    callers: int
    seed: int


@dataclass(frozen=True)
class Death:
    """One broker's end: when, and what each caller's call met."""

    at_ns: int
    told: list[Met]
    patient: list[Met]

    def after_ms(self, met: Met) -> float:
        return (met.ended_ns - self.at_ns) / 1e6

    def waited(self, met: Met) -> bool:
        """The call was under way when the broker was killed."""
        return met.began_ns <= self.at_ns


def measure(bench: RecoveryBench) -> TargetResult:
    workload = workloads.make("mlp", bench.seed)
    deaths = []
    for number in range(bench.kills):
        with bench.broker("t11", {"mlp": bench.mlp}, **SETTLED) as broker:
            bench.progress(number, bench.kills, "killing a broker under load")
            deaths.append(_kill(bench, broker, workload))
    return TargetResult(T11.name, T11.title, "ms", _series(deaths), _figures(deaths), _notes(bench, deaths))


def _kill(bench: RecoveryBench, broker: Broker, workload: workloads.Workload) -> Death:
    with ExitStack() as stack:

        def start(body: caller.Body) -> CallerProcess:
            made = CallerProcess(body, broker.address, "mlp", workload)
            stack.callback(made.close)
            return made

        told = [start(caller.told) for _ in range(bench.callers)]
        patient = [start(caller.patient) for _ in range(bench.callers)]
        for each in (*told, *patient):
            each.await_answers(WARM_CALLS)
            if each.ended:
                raise ArmFailed(f"a caller ended before the kill: {each.result().error}")
        engine = broker.pid
        if engine is None:
            raise ArmFailed("the broker is gone before it was killed")
        at_ns = monotonic_ns()
        os.kill(engine, signal.SIGKILL)
        for each in patient:
            each.await_answers(CALLS_AFTER)
        for each in (*told, *patient):
            each.progress.stop()
        met = [each.result() for each in told]
        return Death(
            at_ns, [one for one in met if one.error is not None], [each.result() for each in patient]
        )


def _series(deaths: Sequence[Death]) -> dict[str, Series]:
    """A window is one death."""
    made = {
        "told": Series("told", "retries=0: the call that waited is told"),
        "patient": Series("patient", "the call that waited is answered"),
    }
    for death in deaths:
        for series, met in ((made["told"], death.told), (made["patient"], death.patient)):
            waited = [one.ended_ns - death.at_ns for one in met if death.waited(one)]
            if waited:
                series.windows.append(LatencyWindow.of(waited))
            series.checked += sum(one.checked for one in met)
    return {name: series for name, series in made.items() if series.windows}


def _figures(deaths: Sequence[Death]) -> list[Figure]:
    told = [death.after_ms(met) for death in deaths for met in death.told if death.waited(met)]
    later = [death.after_ms(met) for death in deaths for met in death.told if not death.waited(met)]
    answered = [death.after_ms(met) for death in deaths for met in death.patient if met.error is None]
    failed = [met for death in deaths for met in death.patient if met.error is not None]
    if not told or not answered:
        raise ArmFailed("no call waited when the brokers were killed")
    figures = [
        Figure(f"told: half of {len(told)} waiting calls within", _all_of(told, 50), "ms"),
        Figure(f"told: every one of {len(told)} waiting calls within", _all_of(told, 100), "ms", 50.0),
        Figure("run again: calls that failed", Spread.exact(float(len(failed))), "", 0.0),
        Figure(f"run again: half of {len(answered)} calls answered within", _all_of(answered, 50), "ms"),
        Figure(
            f"run again: every one of {len(answered)} calls answered within", _all_of(answered, 100), "ms"
        ),
    ]
    if later:
        figures.append(
            Figure(f"told: every one of {len(later)} calls begun later", _all_of(later, 100), "ms")
        )
    return figures


def _all_of(values: Sequence[float], percentile: float) -> Spread:
    """A percentile over all deaths, beside the quickest and the slowest call."""
    ordered = sorted(round(value * 1e6) for value in values)
    return Spread(nearest_rank(ordered, percentile) / 1e6, ordered[0] / 1e6, ordered[-1] / 1e6)


def _notes(bench: RecoveryBench, deaths: Sequence[Death]) -> list[str]:
    how = (
        f"{len(deaths)} brokers, each with a supervisor of its own, killed once while {bench.callers} callers with "
        f"retries=0 and {bench.callers} with the default of one call in a closed loop. Times are from just before "
        "the kill. What is run again waits for the next broker: for its interpreter, TensorFlow and the model."
    )
    errors = {met.error for death in deaths for met in death.patient if met.error is not None}
    return [how, *sorted(f"failed: {error}" for error in errors)]


T11 = MeasuredTarget("T11", "broker killed (SIGKILL) under load, supervised", measure)
