"""T22: many processes at once ask for the node's broker, round after round, and one of them is killed meanwhile."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from benchmarks.figures import Figure, TargetResult
from benchmarks.harness.run import MeasuredTarget
from benchmarks.harness.workbench import Workbench
from benchmarks.node import crowd
from benchmarks.sampling import Spread

IDLE_SECONDS = 2.0
RACE_IDLE_SECONDS = 0.2


@dataclass
class NodeStartBench(Workbench):
    """`processes` at once in each of the `rounds`; then `racers` that come and go for `race_seconds`."""

    processes: int
    rounds: int
    racers: int
    race_seconds: float
    seed: int

    def wanted(self, idle_seconds: float, model: str = crowd.MODEL) -> crowd.WantedBroker:
        log = self.directory / f"{model}-{idle_seconds:g}.log"
        return crowd.WantedBroker({model: f"benchmarks.models.functions:{model}"}, idle_seconds, str(log))


def _measure(bench: NodeStartBench) -> TargetResult:
    rng = random.Random(bench.seed)
    wanted = bench.wanted(IDLE_SECONDS)
    rounds = []
    for number in range(bench.rounds):
        bench.progress(number, bench.rounds, f"{bench.processes} processes at once")
        rounds.append(crowd.play(wanted, bench.processes, rng, kill=True))
    bench.progress(0, 1, f"{bench.processes} processes at once, for a model that cannot be loaded")
    told = crowd.refusals(bench.wanted(IDLE_SECONDS, crowd.BROKEN_MODEL), bench.processes)
    bench.progress(0, 1, f"start and end race, {bench.race_seconds:g} s")
    race = bench.wanted(RACE_IDLE_SECONDS)
    calls, errors = crowd.race(race, bench.racers, bench.race_seconds, bench.seed)
    wrong = [error for each in rounds for error in each.errors] + errors
    wrong += [text for text, seconds in told if math.isinf(seconds)]
    missing = sum(each.callers - each.killed - each.right for each in rounds)
    figures = [
        _figure("calls that were not right", missing, 0),
        _figure("brokers at once, in the worst round", max(len(each.brokers) for each in rounds), 1),
        _figure("interpreters started, in the worst round", max(each.starts for each in rounds), 2),
        _figure(
            "rounds that left something 2 s after idle_seconds", sum(bool(each.left) for each in rounds), 0
        ),
        _figure(
            "a model that cannot be loaded: the last caller has its message after",
            max(seconds for _, seconds in told),
            1,
            "s",
        ),
        _figure("errors in the start and end race", len(errors), 0),
    ]
    notes = [f"start and end race: {calls:,} calls, {race.starts():,} brokers", *wrong[:10]]
    return TargetResult(T22.name, T22.title, "ms", {}, figures, notes)


def _figure(label: str, value: float, most: float, unit: str = "") -> Figure:
    return Figure(label, Spread.exact(value), unit, most)


T22 = MeasuredTarget("T22", "one broker a node, started by whoever comes first", _measure)
