"""The names that `dir()` shows of an object: those for its users, without those for our other modules."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def face(names: Iterable[str], plumbing: Collection[str]) -> list[str]:
    """The public names without `plumbing`, and the names that Python itself uses."""
    return [
        name for name in names if name not in plumbing and (name.startswith("__") or not name.startswith("_"))
    ]
