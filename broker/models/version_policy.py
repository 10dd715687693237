"""Finds the versions of a model on disk, and selects those to serve by its policy.

    models/digits/1, models/digits/2 ...   a folder of numbered versions, as TensorFlow Serving lays them out
    anything else                          one version at a time; its number counts how often it was loaded

Pure, except for reading directories.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.models.kinds import files_in, kind_of

LATEST = "latest"
ALL = "all"
WHAT_A_POLICY_IS = "'latest', 'latest:2', 'all', or the numbers of versions such as [1, 3]"

_LATEST = re.compile(r"latest(:[1-9]\d*)?")
_NUMBERS = re.compile(r"\d+(,\d+)*")
_PASSING = ("__pycache__",)


@dataclass(frozen=True, slots=True)
class Policy:
    """Selects the `latest` existing versions, or these `numbers`, or all."""

    latest: int | None = None
    numbers: tuple[int, ...] = ()

    @classmethod
    def of(cls, value: Any) -> Policy:
        """The policy that a user wrote. Raises ValueError for an invalid value."""
        if isinstance(value, str) and _LATEST.fullmatch(value):
            return cls(latest=int(value.partition(":")[2] or 1))
        if value == ALL:
            return cls()
        if isinstance(value, str) and _NUMBERS.fullmatch(value):
            value = [int(number) for number in value.split(",")]
        if isinstance(value, int) and not isinstance(value, bool):
            value = (value,)
        if isinstance(value, (list, tuple)) and value and all(_is_version(number) for number in value):
            return cls(numbers=tuple(sorted(set(value))))
        raise ValueError(f"{value!r} is not {WHAT_A_POLICY_IS}")

    def choose(self, there: Iterable[int]) -> list[int]:
        """The versions to serve, of the existing ones, in ascending order."""
        found = sorted(there)
        if self.numbers:
            return [number for number in found if number in self.numbers]
        return found if self.latest is None else found[-self.latest :]

    def to_value(self) -> str | tuple[int, ...]:
        """The policy as it is written in a configuration."""
        if self.numbers:
            return self.numbers
        if self.latest is None:
            return ALL
        return LATEST if self.latest == 1 else f"{LATEST}:{self.latest}"


def numbered(source: str) -> dict[int, Path] | None:
    """The versions in a folder of versions; None if `source` is not one. An empty folder gives an empty dict."""
    path = Path(source).expanduser()
    try:
        if not path.is_dir() or kind_of(path) is not None or files_in(path) or (path / "model.py").is_file():
            return None
        children = sorted(path.iterdir())
    except OSError:
        return None
    found: dict[int, Path] = {}
    for child in children:
        if child.name.isascii() and child.name.isdecimal() and child.is_dir():
            found.setdefault(int(child.name), child)
    return found if found or not children else None


def fingerprint(path: Path) -> str:
    """A text that changes with the name, size or time of any file below `path`. Empty if there is nothing."""
    digest = hashlib.sha256()
    try:
        files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
        for file in files:
            if not any(part in _PASSING for part in file.parts):
                status = file.stat()
                digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "replace"))
    except OSError:  # a file is being written, moved or removed
        return ""
    return digest.hexdigest() if files else ""


def _is_version(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0
