"""The quantities that two runs have in common: figures, and on request the times and rates of arms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.compare.rule import Change, compare
from benchmarks.published_results import PublishedResult
from benchmarks.sampling import Spread

_OF_ARMS = (("p50_us", "us, p50", False), ("p99_us", "us, p99", False), ("per_s", "a second", True))
"""Key in an arm's entry and in its windows, what it is called, whether more of it is better."""

Key = tuple[str, str, str]
"""Target, label, unit."""


@dataclass(frozen=True)
class Compared:
    target: str
    label: str
    unit: str
    old: Spread
    new: Spread
    change: Change


def compared(
    old: Mapping[str, PublishedResult], new: Mapping[str, PublishedResult], arms: bool
) -> list[Compared]:
    """All that both have, in the order of the new one."""
    before = dict(_quantities(old, arms))
    found = []
    for key, (spread, higher) in _quantities(new, arms):
        if key in before:
            found.append(Compared(*key, before[key][0], spread, compare(before[key][0], spread, higher)))
    return found


def _quantities(run: Mapping[str, PublishedResult], arms: bool) -> Iterator[tuple[Key, tuple[Spread, bool]]]:
    for target, measured in run.items():
        for figure in measured.result["figures"]:
            key = target, figure["label"].strip(), figure["unit"]
            yield key, (_figure(figure), higher_is_better(figure))
        for name, arm in measured.result["arms"].items() if arms else ():
            for what, unit, higher in _OF_ARMS:
                if what in arm:
                    yield (target, name, unit), (_arm(arm, what), higher)


def higher_is_better(figure: Mapping[str, Any]) -> bool:
    """Older results do not say whether a target is a floor or a ceiling, but whether it was reached."""
    if "bound" in figure:
        return bool(figure["bound"] == "at least")
    if figure.get("target") is None:
        return False
    return bool((figure["value"] >= figure["target"]) == figure["reached"])


def _figure(figure: Mapping[str, Any]) -> Spread:
    return Spread(figure["value"], figure["low"], figure["high"], tuple(figure.get("rounds", ())))


def _arm(arm: Mapping[str, Any], what: str) -> Spread:
    spread = arm[what]
    rounds = tuple(window[what] for window in arm["windows"] if what in window)
    return Spread(spread["median"], spread["low"], spread["high"], rounds)
