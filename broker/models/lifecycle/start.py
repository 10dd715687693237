"""One start of a broker: which model it loads, for how long, and whether it has gone on for too long. Knows no process
and no clock.

The parent asks, who reads in the run record what is loaded; where nobody watches the process, a thread of its own
(`process/load_watch.py`).
"""

from __future__ import annotations

TELL_SECONDS = 10.0
"""How often a start that goes on is told of."""
LEAST_LIMIT_AGAIN_SECONDS = 60.0
TIMES_LONGEST = 10
"""A start after the first may take so many times what the longest has taken, as all workers wait for it."""


class Start:
    """`began_s` and `now_s` by one clock. `limit_s` is 0 for no limit."""

    def __init__(self, began_s: float, limit_s: float) -> None:
        self.began_s = began_s
        self.limit_s = limit_s
        self._tell_s = began_s + TELL_SECONDS

    def __repr__(self) -> str:
        return f"<Start, limit {self.limit_s:g} s>"

    def forgive(self, seconds: float) -> None:
        """The machine stood still for so long."""
        self.began_s += seconds
        self._tell_s += seconds

    def news(self, now_s: float, model: str, seconds: float) -> str:
        """What the log is to say now, "" for nothing. `model` has been loading for `seconds`; "" for none."""
        if now_s < self._tell_s:
            return ""
        self._tell_s = now_s + TELL_SECONDS
        return f"not ready after {now_s - self.began_s:.0f} s: {_state(model, seconds)}{self._until()}"

    def why_end(self, now_s: float, model: str, seconds: float) -> str:
        """Why it must be ended; empty if it need not be."""
        if not self.limit_s or now_s - self.began_s < self.limit_s:
            return ""
        return (
            f"the broker was not ready within {self.limit_s:g} s (start_seconds): {_state(model, seconds)}; see what "
            "that waits for, or raise start_seconds (0 sets no limit)"
        )

    def _until(self) -> str:
        return f"; it is given up after {self.limit_s:g} s (start_seconds)" if self.limit_s else ""


def limit_again(limit_s: float, longest_s: float) -> float:
    """Of a start after the first, where `longest_s` is what the longest so far has taken."""
    return min(limit_s, max(LEAST_LIMIT_AGAIN_SECONDS, round(TIMES_LONGEST * longest_s)))


def _state(model: str, seconds: float) -> str:
    return f"model {model!r} has been loading for {seconds:.0f} s" if model else "it loads no model yet"
