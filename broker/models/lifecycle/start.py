"""One start of a broker: which model it loads, for how long, and whether it takes too long. Knows no process and reads
no clock.

The parent uses it, with the loaded model from the run record; without a watching parent, a thread of the process does
(`process/load_watch.py`).
"""

from __future__ import annotations

import logging

TELL_SECONDS = 10.0
"""How often a long start is logged."""
LEAST_LIMIT_AGAIN_SECONDS = 60.0
TIMES_LONGEST = 10
"""A start after the first may take this many times the longest start so far, because all workers wait for it."""


class Start:
    """One start. `began_s` and `now_s` are times of the same clock. `limit_s` is 0 for no limit."""

    def __init__(self, began_s: float, limit_s: float) -> None:
        self.began_s = began_s
        self.limit_s = limit_s
        self._tell_s = began_s + TELL_SECONDS

    def __repr__(self) -> str:
        return f"<Start, limit {self.limit_s:g} s>"

    def forgive(self, seconds: float) -> None:
        """Extend the limit by `seconds`, in which the machine stood still."""
        self.began_s += seconds
        self._tell_s += seconds

    def news(self, now_s: float, model: str, seconds: float) -> str:
        """The line to log now; "" for none. `model` has been loading for `seconds`; "" for no model."""
        if now_s < self._tell_s:
            return ""
        self._tell_s = now_s + TELL_SECONDS
        return f"not ready after {now_s - self.began_s:.0f} s: {_state(model, seconds)}{self._until()}"

    @staticmethod
    def level(model: str, seconds: float) -> int:
        """The level of that line: only a model that loads for long is worth a warning, not that the start imports and
        measures, too."""
        return logging.WARNING if model and seconds > TELL_SECONDS / 2 else logging.INFO

    def why_end(self, now_s: float, model: str, seconds: float) -> str:
        """Why the start must be ended; empty if it may continue."""
        if not self.limit_s or now_s - self.began_s < self.limit_s:
            return ""
        return (
            f"the broker was not ready within {self.limit_s:g} s (start_seconds): "
            f"{_state(model, seconds)}; see what "
            "it waits for, or raise start_seconds (0 sets no limit)"
        )

    def _until(self) -> str:
        return f"; the start is given up after {self.limit_s:g} s (start_seconds)" if self.limit_s else ""


def limit_again(limit_s: float, longest_s: float) -> float:
    """The limit of a start after the first; `longest_s` is the time of the longest start so far."""
    return min(limit_s, max(LEAST_LIMIT_AGAIN_SECONDS, round(TIMES_LONGEST * longest_s)))


def _state(model: str, seconds: float) -> str:
    return (
        f"model {model!r} has been loading for {seconds:.0f} s"
        if model
        else "it is importing libraries or tuning"
    )
