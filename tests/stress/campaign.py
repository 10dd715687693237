"""Bout after bout of chaos, each with processes of its own; what must hold after each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from tests import leaks
from tests.differential.stage import stress_stage
from tests.stress.chaos import Chaos, Scene
from tests.stress.crew import crew
from tests.stress.hung import hung_crew
from tests.stress.site import site
from tests.stress.verdicts import Fault

TELL_EVERY_S = 10.0
LEAK_GRACE_S = 20.0

Tell = Callable[[str], None]


class Stage(Scene, Protocol):
    """A scene that comes to an end."""

    ends: Counter[str]

    def stop(self) -> None:
        """Have the work end; raises for what has gone wrong."""


@dataclass(frozen=True)
class Kind:
    """A way to run workers. `kills` in a bout: so few that no broker's restart is delayed for long."""

    kills: int
    stage: Callable[[int, str], AbstractContextManager[Stage]]


KINDS = {
    "plain": Kind(60, crew),
    "gunicorn": Kind(40, site),
    "differential": Kind(30, stress_stage),
    "hung": Kind(20, hung_crew),
}


@dataclass
class Report:
    """What has been survived."""

    kills: int = 0
    calls: int = 0
    bouts: int = 0
    deeds: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.kills:,} kills in {self.bouts} bouts ({_counts(self.deeds)}); {self.calls:,} calls in "
            f"{self.seconds:.0f} s, of those told of: {_counts(self.ends)}"
        )


def run(
    kills: int,
    seed: int,
    kinds: tuple[str, ...] = tuple(KINDS),
    workers: int = 4,
    tell: Tell = lambda line: None,
    first_bout: int = 0,
) -> Report:
    """Kill so many, in bouts of each kind in turn. Raises AssertionError for a wrong answer, a hang, or anything left.

    A bout can be repeated alone: its deeds and calls are drawn from the seed and its number.
    """
    report = Report()
    began = time.monotonic()
    while report.kills < kills:
        number = first_bout + report.bouts
        kind = kinds[number % len(kinds)]
        wanted = min(KINDS[kind].kills, kills - report.kills)
        tell(f"bout {number}, {kind}: {wanted} kills")
        _bout(KINDS[kind], wanted, f"{seed}.{number}", workers, tell, report)
        report.bouts += 1
        report.seconds = time.monotonic() - began
    return report


def _bout(kind: Kind, kills: int, seed: str, workers: int, tell: Tell, report: Report) -> None:
    before = leaks.Snapshot.take()
    with kind.stage(workers, seed) as stage:
        chaos = Chaos(stage, seed)
        _strike_until(kills, chaos, stage, tell)
        stage.stop()
        report.calls += stage.calls
        report.ends += stage.ends
    report.kills += chaos.kills
    report.deeds += chaos.done
    found = leaks.find_leaks(before, LEAK_GRACE_S)
    if found:
        raise Fault(f"after the bout something is {found.report()}")


def _strike_until(kills: int, chaos: Chaos, stage: Stage, tell: Tell) -> None:
    told = time.monotonic()
    while chaos.kills < kills:
        chaos.strike()
        stage.check()
        if time.monotonic() - told > TELL_EVERY_S:
            told = time.monotonic()
            tell(f"{chaos.kills} of {kills} kills ({_counts(chaos.done)}), {stage.calls:,} calls")


def _counts(of: Counter[str]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in sorted(of.items()))
