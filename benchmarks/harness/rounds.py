"""Arms in turn: in every round one window of each, so that a drifting machine affects all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from benchmarks.harness.arm import Arm, ArmProcess
from benchmarks.harness.host.cpu import descendants, wait_until_quiet
from benchmarks.sampling import LatencyWindow, Series
from broker.bench.turns import in_turn

P = TypeVar("P", bound=ArmProcess)
WARM_UP_SHARE = 0.1
Progress = Callable[[int, int, str], None]
"""Called with the number of finished windows, the number of all windows, and what is measured."""


@dataclass(frozen=True)
class RoundPlan:
    """How long to measure. `calls` is the number of calls per window; a share of it comes before, as warm-up."""

    rounds: int
    calls: int
    seed: int
    warm_up_share: float = WARM_UP_SHARE

    def calls_of(self, arm: Arm) -> int:
        return max(1, round(self.calls * arm.calls))

    def warm_up_of(self, arm: Arm) -> int:
        return round(self.calls_of(arm) * self.warm_up_share)


@contextmanager
def running(arms: Sequence[Arm], seed: int) -> Iterator[list[ArmProcess]]:
    """The arms' processes, all ready. They start at the same time: their start is not measured here."""
    with starting([partial(ArmProcess, arm, seed) for arm in arms]) as processes:
        for process in processes:
            process.await_ready()
        yield processes


@contextmanager
def starting(makers: Sequence[Callable[[], P]]) -> Iterator[list[P]]:
    """The processes, all stopped when the block ends."""
    with ExitStack() as stack:
        yield [stack.enter_context(make()) for make in makers]


def run_rounds(arms: Sequence[Arm], plan: RoundPlan, progress: Progress) -> dict[str, Series]:
    """Every arm's windows, by the arm's name. Raises ArmFailed."""
    series = {arm.name: Series(arm.name, arm.label) for arm in arms}
    with running(arms, plan.seed) as processes:
        everybody = descendants()
        for number in range(plan.rounds):
            for turn, process in enumerate(in_turn(processes, number)):
                arm = process.arm
                progress(number * len(arms) + turn, plan.rounds * len(arms), arm.label)
                wait_until_quiet(everybody)
                taken_ns, checked = process.window(plan.calls_of(arm), plan.warm_up_of(arm))
                series[arm.name].windows.append(LatencyWindow.of(taken_ns))
                series[arm.name].checked += checked
    return series
