"""Numbers drawn from one integer by splitmix64, which costs less to begin than `random.Random`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_MASK = (1 << 64) - 1
T = TypeVar("T")


class Draw:
    """A sequence that its seed decides. `again` is the same sequence from here on."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def bits(self) -> int:
        self._state = state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return state ^ (state >> 31)

    def below(self, end: int) -> int:
        return self.bits() % end

    def among(self, choices: Sequence[T]) -> T:
        return choices[self.bits() % len(choices)]

    def one_in(self, count: int) -> bool:
        return self.bits() % count == 0

    def seconds(self, low: float, high: float) -> float:
        return low + (high - low) * (self.bits() / (1 << 64))

    def again(self) -> Draw:
        return Draw(self._state)
