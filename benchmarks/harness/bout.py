"""Arms with several workers each, in turns: a window of each in every round, until all of them are stable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.harness.arm import Arm, ArmProcess
from benchmarks.harness.cpu import descendants, wait_until_quiet
from benchmarks.harness.rounds import Progress, in_turn, starting
from benchmarks.harness.surroundings import QUIET, Surroundings, group_for, throttled_s
from benchmarks.rates import RateSeries, RateWindow, by_rate
from broker.host.cgroup import Group


@dataclass(frozen=True)
class Pace:
    """One window's length, what goes before it uncounted, and the most windows of one arm."""

    seconds: float
    warm_up_s: float
    most: int
    seed: int


class CrewProcess(ArmProcess):
    """An arm with several workers, running."""

    subject = "benchmarks.harness.crew"

    def rate(self, pace: Pace) -> tuple[RateWindow, int]:
        """A window, and how many answers were checked in it and in its warm-up. Raises ArmFailed."""
        message = self._run(pace.seconds, pace.warm_up_s)
        return message["window"], message["checked"]


def run_bout(
    arms: Sequence[Arm],
    pace: Pace,
    progress: Progress,
    *,
    together: bool = True,
    steady: Callable[[RateWindow], float] = by_rate,
) -> dict[str, RateSeries]:
    """Every arm's windows, by the arm's name. Raises ArmFailed.

    `together`: all go on until the last of them is stable, so that they can be compared within each round; else each
    stops when it is.
    """
    return run_bouts(arms, [QUIET], pace, progress, together=together, steady=steady)[QUIET.name]


def run_bouts(
    arms: Sequence[Arm],
    several: Sequence[Surroundings],
    pace: Pace,
    progress: Progress,
    *,
    together: bool = True,
    steady: Callable[[RateWindow], float] = by_rate,
) -> dict[str, dict[str, RateSeries]]:
    """The same arms, started once, in each of these surroundings; by their names."""
    found: dict[str, dict[str, RateSeries]] = {}
    with (
        group_for(several) as group,
        starting([partial(CrewProcess, arm, pace.seed, group and group.folder) for arm in arms]) as crews,
    ):
        facts = {}
        for done, crew in enumerate(crews):
            progress(done, len(crews), f"starting {crew.arm.label}")
            facts[crew.arm.name] = crew.await_ready()["facts"]
        everybody = descendants()
        for each in several:
            series = found[each.name] = {
                arm.name: RateSeries(arm.name, arm.label, {**arm.facts, **facts[arm.name]}, steady)
                for arm in arms
            }
            with each.imposed(everybody, group):
                _run_rounds(crews, series, pace, progress, together, partial(_measure, everybody, group))
    return found


def _run_rounds(
    crews: list[CrewProcess],
    series: dict[str, RateSeries],
    pace: Pace,
    progress: Progress,
    together: bool,
    measure: Callable[[CrewProcess, Pace, RateSeries], None],
) -> None:
    for number in range(pace.most):
        going_on = _going_on(crews, series, together)
        if not going_on:
            break
        for turn, crew in enumerate(in_turn(going_on, number)):
            progress(number * len(crews) + turn, pace.most * len(crews), _what(crew.arm))
            measure(crew, pace, series[crew.arm.name])


def _going_on(crews: list[CrewProcess], series: dict[str, RateSeries], together: bool) -> list[CrewProcess]:
    unstable = [crew for crew in crews if not series[crew.arm.name].stable]
    return crews if unstable and together else unstable


def _measure(
    everybody: Iterable[int], group: Group | None, crew: CrewProcess, pace: Pace, series: RateSeries
) -> None:
    wait_until_quiet(everybody)
    before = throttled_s(group)
    window, checked = crew.rate(pace)
    series.windows.append(replace(window, throttled_s=throttled_s(group) - before))
    series.checked += checked


def _what(arm: Arm) -> str:
    workers = arm.facts.get("workers")
    return f"{arm.label}, {workers} workers" if workers else arm.label
