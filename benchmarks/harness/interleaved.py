"""Interleaved runs of arms with several workers each: a window of each in every round, until all of them are stable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.harness.arm import Arm, ArmProcess
from benchmarks.harness.host.cpu import LOOK_S, descendants, wait_until_quiet
from benchmarks.harness.host.surroundings import QUIET, Surroundings, group_for, throttled_s
from benchmarks.harness.rounds import Progress, starting
from benchmarks.rates import RateSeries, RateWindow, by_rate
from broker.bench.turns import in_turn
from broker.host.cgroup import Group

_STOPPED_S = 0.3
"""Under a quota a process that still polls may be stopped for most of a period of 0.1 s, and looks quiet then."""


@dataclass(frozen=True)
class Pace:
    """The length of a window, the warm-up before it, which does not count, and the maximum windows per arm."""

    seconds: float
    warm_up_s: float
    most: int
    seed: int


class WorkersProcess(ArmProcess):
    """An arm with several workers, running."""

    module = "benchmarks.harness.several_workers"

    def rate(self, pace: Pace) -> tuple[RateWindow, int]:
        """A window, and how many answers were checked in it and in its warm-up. Raises ArmFailed."""
        message = self._run(pace.seconds, pace.warm_up_s)
        return message["window"], message["checked"]


def run_interleaved(
    arms: Sequence[Arm], pace: Pace, progress: Progress, **options: Any
) -> dict[str, RateSeries]:
    """Every arm's windows on a quiet machine, by the arm's name. Raises ArmFailed."""
    return run_interleaved_in(arms, [QUIET], pace, progress, **options)[QUIET.name]


def run_interleaved_in(
    arms: Sequence[Arm],
    several: Sequence[Surroundings],
    pace: Pace,
    progress: Progress,
    *,
    together: bool = True,
    steady: Callable[[RateWindow], float] = by_rate,
) -> dict[str, dict[str, RateSeries]]:
    """The same arms, started once, in each of these surroundings; by their names.

    `together`: all continue until the last of them is stable, so that they can be compared within each round; otherwise
    each stops when it is stable.
    """
    found: dict[str, dict[str, RateSeries]] = {}
    with (
        group_for(several) as group,
        starting(
            [partial(WorkersProcess, arm, pace.seed, group and group.folder) for arm in arms]
        ) as processes,
    ):
        facts = {}
        for done, process in enumerate(processes):
            progress(done, len(processes), f"starting {process.arm.label}")
            facts[process.arm.name] = process.await_ready()["facts"]
        everybody = descendants()
        for each in several:
            series = found[each.name] = {
                arm.name: RateSeries(arm.name, arm.label, {**arm.facts, **facts[arm.name]}, steady)
                for arm in arms
            }
            with each.imposed(everybody, group):
                _run_rounds(
                    processes, series, pace, progress, together, partial(_measure, everybody, group, each)
                )
    return found


def _run_rounds(
    processes: list[WorkersProcess],
    series: dict[str, RateSeries],
    pace: Pace,
    progress: Progress,
    together: bool,
    measure: Callable[[WorkersProcess, Pace, RateSeries], None],
) -> None:
    for number in range(pace.most):
        going_on = _going_on(processes, series, together)
        if not going_on:
            break
        for turn, process in enumerate(in_turn(going_on, number)):
            progress(number * len(processes) + turn, pace.most * len(processes), _what(process.arm))
            measure(process, pace, series[process.arm.name])


def _going_on(
    processes: list[WorkersProcess], series: dict[str, RateSeries], together: bool
) -> list[WorkersProcess]:
    unstable = [process for process in processes if not series[process.arm.name].stable]
    return processes if unstable and together else unstable


def _measure(
    everybody: Iterable[int],
    group: Group | None,
    surroundings: Surroundings,
    process: WorkersProcess,
    pace: Pace,
    series: RateSeries,
) -> None:
    wait_until_quiet(everybody, look_s=LOOK_S if surroundings.quota is None else _STOPPED_S)
    before = throttled_s(group)
    window, checked = process.rate(pace)
    series.windows.append(replace(window, throttled_s=throttled_s(group) - before))
    series.checked += checked


def _what(arm: Arm) -> str:
    workers = arm.facts.get("workers")
    return f"{arm.label}, {workers} workers" if workers else arm.label
