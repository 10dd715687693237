"""The order in which arms take turns. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def in_turn(arms: Sequence[T], number: int) -> list[T]:
    """The order of round `number`. Each round starts with another arm, so that none always runs after the same one."""
    start = number % len(arms)
    return [*arms[start:], *arms[:start]]
