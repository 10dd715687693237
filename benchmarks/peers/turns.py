"""Arms in turn, each alone on the machine: one is started, measured and ended, then the next one, round after round.

Other commands keep all arms up and measure a window of each in every round. Some peers never rest (LitServe polls its
queues, Ray its own services): up beside the broker they would slow it down, and it them. Started afresh each time they
also say, with nothing else running, what a start takes and what memory their tree has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from benchmarks import memory
from benchmarks.harness.arm import Arm, ArmFailed
from benchmarks.harness.interleaved import Pace, WorkersProcess
from benchmarks.harness.rounds import Progress
from benchmarks.rates import RateSeries, RateWindow
from benchmarks.sampling import Spread
from broker.bench.load.linked_process import ENDED
from broker.bench.turns import in_turn

_WRONG = "WrongAnswer"


@dataclass(frozen=True)
class Turn:
    """One start of an arm: seconds until every worker had all its first answers, PSS, windows."""

    start_s: float
    memory_mb: float
    windows: list[RateWindow]
    checked: int
    facts: dict[str, Any]


def order(arms: Sequence[Arm], rounds: int) -> Iterator[tuple[int, Arm]]:
    """A B C, B C A, ...: every arm once in each round, and none always after the same one's end of the round."""
    for number in range(rounds):
        for arm in in_turn(arms, number):
            yield number, arm


def run_in_turns(
    arms: Sequence[Arm], rounds: int, pace: Pace, progress: Progress, needed: str
) -> tuple[dict[str, RateSeries], dict[str, str]]:
    """Every arm's windows by its name, `pace.most` of each start; and why arms were left out, by their label.

    An arm that does not start or does not go on answering is left out. Raises ArmFailed for one that answers wrongly,
    and for the arm that is `needed`.
    """
    series: dict[str, RateSeries] = {}
    skipped: dict[str, str] = {}
    for done, (_, arm) in enumerate(order(arms, rounds)):
        if arm.label in skipped:
            continue
        progress(done, rounds * len(arms), f"{arm.label}, {arm.facts['workers']} workers")
        try:
            turn = _turn(arm, pace)
        except ArmFailed as error:
            if _WRONG in str(error) or arm.name == needed:
                raise
            skipped[arm.label] = _in_short(error)
            continue
        _add(series.setdefault(arm.name, RateSeries(arm.name, arm.label, dict(arm.facts))), turn)
    kept = {arm.name: series[arm.name] for arm in arms if arm.name in series and arm.label not in skipped}
    return kept, skipped


def _in_short(error: ArmFailed) -> str:
    """The error; with the last line that the arm wrote if it ended without sending one."""
    cause, *said = str(error).splitlines()
    return f"{cause}: {said[-1]}" if said and cause.endswith(ENDED) else cause


def _turn(arm: Arm, pace: Pace) -> Turn:
    began = monotonic()
    with WorkersProcess(arm, pace.seed) as process:
        facts = process.await_ready()["facts"]
        start_s = monotonic() - began
        windows = [process.rate(pace) for _ in range(pace.most)]
        memory_mb = memory.tree_pss_bytes(process.pid) / memory.MB
    return Turn(start_s, memory_mb, [window for window, _ in windows], sum(n for _, n in windows), facts)


def _add(series: RateSeries, turn: Turn) -> None:
    series.windows += turn.windows
    series.checked += turn.checked
    series.facts.update(turn.facts)
    starts = series.facts.setdefault("starts", [])
    starts.append({"start_s": turn.start_s, "memory_mb": turn.memory_mb})
    for fact in ("start_s", "memory_mb"):
        series.facts[f"{fact}_median"] = Spread.of([start[fact] for start in starts]).median


def start_ratio(one: RateSeries, other: RateSeries, fact: str) -> Spread:
    """The ratio of a fact of the starts, within each round."""
    pairs = zip(one.facts["starts"], other.facts["starts"], strict=True)
    return Spread.of([a[fact] / b[fact] for a, b in pairs])
