"""What a check says: how bad it is, what was found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Level(Enum):
    """PROBLEM: something fails, or will. WARNING: it works, but worse than it could, or only for now."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` is empty only where all is well."""

    check: str
    level: Level
    found: str
    remedy: str = ""

    def to_message(self) -> dict[str, Any]:
        return {"check": self.check, "level": self.level.value, "found": self.found, "remedy": self.remedy}


def ok(check: str, found: str) -> Finding:
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Level.WARNING, found, remedy)


def problem(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Level.PROBLEM, found, remedy)


def worst(findings: list[Finding]) -> Level:
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)
