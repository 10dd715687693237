"""The result of a check: its severity, what was found, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Severity(Enum):
    """PROBLEM: something fails, or will fail. WARNING: it works, but worse than it could, or only for now."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `remedy` is empty only if nothing is wrong."""

    check: str
    level: Severity
    found: str
    remedy: str = ""

    def to_message(self) -> dict[str, Any]:
        return {"check": self.check, "level": self.level.value, "found": self.found, "remedy": self.remedy}


def ok(check: str, found: str) -> Finding:
    return Finding(check, Severity.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Severity.WARNING, found, remedy)


def problem(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Severity.PROBLEM, found, remedy)


def worst(findings: list[Finding]) -> Severity:
    order = list(Severity)
    return max((finding.level for finding in findings), key=order.index, default=Severity.OK)
