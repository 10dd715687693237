"""A fault that can be put into a process of the product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Any


class Side(Enum):
    """The process into which a fault is put."""

    BROKER = "broker"
    WORKER = "worker"


@dataclass(frozen=True)
class Fault:
    """`put` changes this process. `kinds` and `ways` are those that meet it soon; a run of all of them does, too."""

    name: str
    side: Side
    put: Callable[[], None]
    kinds: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    deeds: bool = False
    """It takes kills to meet it."""


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Have `around(original, *args)` called in place of `owner.name`. Raises AttributeError if the product has no such
    name any more: then the fault must be put somewhere else."""
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **named: around(original, *args, **named))


def now_and_then(every: int) -> Callable[[], bool]:
    """True each `every`th time."""
    numbers = count(1)
    return lambda: next(numbers) % every == 0
