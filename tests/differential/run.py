"""Rounds of calls for as long as asked, each with a broker and workers of its own; what must hold in and after each."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests import leaks
from tests.differential.export import export
from tests.differential.plan import Script
from tests.differential.report import script_of, write
from tests.differential.shrink import Player, shrink
from tests.differential.stage import Options, Stage, stage
from tests.stress.campaign import LEAK_GRACE_S
from tests.stress.chaos import Chaos
from tests.stress.verdicts import Fault

ROUND_S = 120.0
PAUSE_S = 1.5
"""At most, between two deeds."""
TELL_EVERY_S = 10.0

Tell = Callable[[str], None]


class Failed(AssertionError):
    """A run has found something: the message, and `script`, the file that repeats it."""

    def __init__(self, message: str, script: Path) -> None:
        super().__init__(message)
        self.script = script


@dataclass
class Report:
    """What has been compared, and was right."""

    answers: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    deeds: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    seconds: float = 0.0
    """Of calls, without the starts of brokers."""

    def __str__(self) -> str:
        total = self.answers.total()
        return (
            f"{total:,} answers compared, all right, in {self.seconds:.0f} s ({total / max(self.seconds, 1e-9):,.0f}"
            f" a second), {self.rounds} rounds\n  of {_counts(self.answers)}\n  not answered: {_counts(self.ends)}\n"
            f"  meanwhile: {_counts(self.deeds)}"
        )


@dataclass(frozen=True)
class Limits:
    """How long to look for something, and then for the shortest script that repeats it."""

    seconds: float
    shrink_seconds: float = 90.0


@contextlib.contextmanager
def exported() -> Iterator[Path]:
    """A folder with every SavedModel, gone after the block."""
    with tempfile.TemporaryDirectory(prefix="onesession-differential-") as place:
        export(Path(place))
        yield Path(place)


def run(
    models: Path, limits: Limits, seed: int, options: Options, out: Path, tell: Tell = lambda line: None
) -> Report:
    """Raises Failed for the first thing that is wrong, with a script in the folder `out`."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="onesession-differential-") as place:
        while report.seconds < limits.seconds:
            records = Path(tempfile.mkdtemp(dir=place))
            seconds = min(ROUND_S, limits.seconds - report.seconds)
            try:
                _round(models, records, f"{seed}.{report.rounds}", options, seconds, report, tell)
            except _Found as found:
                message, script = found.args
                script = replace(script, seed=seed)
                script = _shrunk(script, found.culprit, models, limits.shrink_seconds, tell)
                raise Failed(message, write(script, out)) from found.__cause__
            report.rounds += 1
    return report


class _Found(Exception):
    """In a round: the message and the script of all that was done last."""

    culprit: tuple[int, int] | None = None


def _round(
    models: Path, records: Path, seed: str, options: Options, seconds: float, report: Report, tell: Tell
) -> None:
    before = leaks.Snapshot.take()
    with stage(models, records, seed, options) as scene:
        try:
            _call(scene, seed, options, seconds, report, tell)
            scene.stop()
        except AssertionError as error:
            found = _Found(*script_of(scene, error, options))
            failure = scene.failure()
            found.culprit = (failure["place"], failure["thread"]) if failure else None
            raise found from error
        finally:
            report.answers += scene.answers
        report.ends += scene.ends
    left = leaks.find_leaks(before, LEAK_GRACE_S)
    if left:
        raise Fault(f"after the round something is {left.report()}")


def _call(scene: Stage, seed: str, options: Options, seconds: float, report: Report, tell: Tell) -> None:
    chaos = Chaos(scene, seed, PAUSE_S)
    begun = told = time.monotonic()
    while (now := time.monotonic()) - begun < seconds:
        if options.deeds:
            chaos.strike()
        else:
            time.sleep(min(0.5, seconds))
        scene.check()
        if now - told > TELL_EVERY_S:
            told = now
            tell(f"{scene.calls:,} answers right in {now - begun:.0f} s ({_counts(chaos.done)})")
    report.seconds += time.monotonic() - begun
    report.deeds += chaos.done


def _shrunk(
    script: Script, culprit: tuple[int, int] | None, models: Path, seconds: float, tell: Tell
) -> Script:
    if seconds <= 0:
        return script
    tell(f"{script.message.splitlines()[-1]}; looking for a shorter script for {seconds:g} s")
    with Player(models, script.fault) as player:
        return shrink(script, culprit, player, seconds, tell)


def _counts(of: Counter[str]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in sorted(of.items())) or "nothing"
