"""How long to wait before the next attempt: longer after each one, up to a limit. Does not read a clock."""

from __future__ import annotations


class Backoff:
    """Seconds to pause: `first_s`, then twice as long each time, at most `last_s`."""

    __slots__ = ("_next_s", "first_s", "last_s")

    def __init__(self, first_s: float, last_s: float) -> None:
        self.first_s = first_s
        self.last_s = last_s
        self._next_s = first_s

    def __repr__(self) -> str:
        return f"<Backoff, next {self._next_s:g} s>"

    def next_s(self) -> float:
        """The pause before the next try."""
        pause, self._next_s = self._next_s, min(2 * self._next_s, self.last_s)
        return pause

    def reset(self) -> None:
        """Begin with `first_s` again, after a try that succeeded."""
        self._next_s = self.first_s
