"""Arms started one at a time, in turn, with nothing else running: how long a start takes, and the memory after it.

Memory is the sum of PSS of the whole tree, after the warm-up and with no request under way. Trees that share libraries
must not be looked at side by side (`benchmarks/memory.py`), which is why no two arms ever run here together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.arm import Arm
from benchmarks.harness.interleaved import WorkersProcess
from benchmarks.harness.rounds import Progress
from benchmarks.sampling import LatencyWindow, Series, Spread


@dataclass
class Starts:
    """One arm's starts, one a round: the facts of each as `served` gives them."""

    arm: Arm
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def of(self, fact: str) -> Spread:
        return Spread.of([facts[fact] for facts in self.rounds])

    @property
    def facts(self) -> dict[str, Any]:
        """The facts for the tables and the JSON: the medians, and those of each start."""
        medians = {f"{fact}_median": self.of(fact).median for fact in ("memory_mb", "start_s")}
        return {**medians, "starts": self.rounds}

    def first_answers(self) -> Series:
        """The time of every worker from its fork to an answer of its model."""
        windows = [
            LatencyWindow.of([round(ms * 1e6) for ms in facts["first_answers_ms"]]) for facts in self.rounds
        ]
        answers = sum(window.samples for window in windows)
        return Series(self.arm.name, self.arm.label, windows, answers)


def measure(arms: Sequence[Arm], rounds: int, seed: int, progress: Progress) -> dict[str, Starts]:
    """Every arm's starts, by the arm's name. Raises ArmFailed."""
    found = {arm.name: Starts(arm) for arm in arms}
    for number in range(rounds):
        for turn, arm in enumerate(arms):
            progress(number * len(arms) + turn, rounds * len(arms), f"starting {arm.label}")
            with WorkersProcess(arm, seed) as process:
                found[arm.name].rounds.append(process.await_ready()["facts"])
    return found


def per_round(combine: Callable[..., float], fact: str, *several: Starts) -> Spread:
    """`combine` of a fact of the arms, within each round."""
    rounds = zip(*(starts.rounds for starts in several), strict=True)
    return Spread.of([combine(*(facts[fact] for facts in each)) for each in rounds])


def ratio(one: Starts, other: Starts, fact: str) -> Spread:
    return per_round(lambda a, b: a / b, fact, one, other)
