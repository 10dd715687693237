"""What `dir()` shows of an object: what its users call, and not what our other modules call of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def face(names: Iterable[str], plumbing: Collection[str]) -> list[str]:
    """The public names, and those that Python itself uses."""
    return [
        name for name in names if name not in plumbing and (name.startswith("__") or not name.startswith("_"))
    ]
