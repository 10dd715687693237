"""Finds long runs: under way for more than a second, and more than ten times the model's usual time."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from broker.counters.run_record import STARTED_NS
from broker.data_plane.served_signature import ServedSignature

if TYPE_CHECKING:
    from broker.data_plane.intake import Intake

_LONG_NS = 1_000_000_000
_TIMES_EXPECTED = 10


@dataclass(frozen=True, slots=True)
class LongRun:
    """A long run. `limit_seconds` is 0 without a limit; `light`: it is on the intake thread."""

    model: str
    version: int
    signature: str
    seconds: float
    limit_seconds: float
    expected_seconds: float
    light: bool

    @classmethod
    def of(cls, served: ServedSignature, ran_ns: int, light: bool) -> LongRun:
        names = served.model, served.entry.version, served.entry.signature.name
        return cls(*names, ran_ns / 1e9, served.limit_ns / 1e9, served.expected_ns / 1e9, light)

    def to_message(self) -> dict[str, Any]:
        return {**{field.name: getattr(self, field.name) for field in fields(self)}, "text": str(self)}

    def __str__(self) -> str:
        limit = (
            f"max_run_seconds is {self.limit_seconds:g}"
            if self.limit_seconds
            else "it has no max_run_seconds"
        )
        rest = "; until it ends, nothing else runs on the intake thread" if self.light else ""
        return (
            f"model {self.model!r}, signature {self.signature!r}: a run has been under way for "
            f"{self.seconds:.1f} s "
            f"(usually {self.expected_seconds * 1000:.1f} ms; {limit}){rest}"
        )


def long_runs(intake: Intake, now_ns: int) -> list[LongRun]:
    """The long runs of now. Called on any thread."""
    found = []
    for runner, pool in intake.runners():
        served, started = runner.line.of, runner.line.words[STARTED_NS]
        if started and isinstance(served, ServedSignature) and is_long(served, now_ns - started):
            found.append(LongRun.of(served, now_ns - started, pool is None))
    return found


def is_long(served: ServedSignature, ran_ns: int) -> bool:
    return ran_ns > _LONG_NS and ran_ns > _TIMES_EXPECTED * served.expected_ns
