"""Results on disk: one file, or the newest result of each target in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT

PUBLISHED = ROOT / "benchmarks" / "published"
_NEEDED = {"targets", "machine", "started"}


class NoResults(Exception):
    """There are no results here that a benchmark wrote."""


@dataclass(frozen=True)
class PublishedResult:
    """One target's entry in the results, and the run that it belongs to."""

    path: Path
    run: dict[str, Any]
    result: dict[str, Any]

    @property
    def machine(self) -> dict[str, Any]:
        """The machine it was measured on; results that were merged from several runs keep the machine of each."""
        found: dict[str, Any] = self.result.get("machine") or self.run["machine"]
        return found

    @property
    def commit(self) -> str:
        """Ten digits; `+` where the tree had changes that were not committed."""
        return str(self.machine["commit"])[:10] + ("+" if self.machine["uncommitted_changes"] else "")

    @property
    def options(self) -> dict[str, Any]:
        """The options of the command that measured it; `targets` keeps them with each result."""
        found: dict[str, Any] = self.result.get("options") or self.run.get("options", {})
        return found

    @property
    def started(self) -> str:
        return str(self.result.get("started") or self.run["started"])


def newest(place: Path) -> dict[str, PublishedResult]:
    """The results by target, ordered by name: the newest in a folder, or all in a file. Raises NoResults."""
    found: dict[str, PublishedResult] = {}
    for path, document in sorted(_documents(place), key=lambda each: str(each[1]["started"])):
        for name, result in document["targets"].items():
            found[name] = PublishedResult(path, document, result)
    if not found:
        raise NoResults(
            f"{place}: expected the JSON of a `python -m benchmarks` command, or a folder of such"
        )
    return {name: found[name] for name in sorted(found, key=natural)}


def natural(name: str) -> tuple[int, str]:
    """T2 before T10."""
    return len(name), name


def _documents(place: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(place.glob("*.json")) if place.is_dir() else [place]:
        try:
            document = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise NoResults(
                f"{path}: {error}; expected the JSON of a `python -m benchmarks` command"
            ) from None
        if isinstance(document, dict) and document.keys() >= _NEEDED:
            yield path, document
