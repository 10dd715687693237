"""Decides which model ends the broker's process, by what ran when it ended. Knows no process and reads no clock.

Each model that ran is a suspect for a minute. The next process runs suspects one request at a time, and no two of them
concurrently (`scheduling/probation.py`), so that a second death has only one suspect. A model that ran at three deaths
within a minute, and at more of them than any other, is set aside: the broker serves without it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

DEATHS = 3
WITHIN_SECONDS = 60.0


class Suspicion:
    """The deaths of one broker's processes in the last minute."""

    def __init__(self) -> None:
        self._deaths: deque[tuple[float, frozenset[str]]] = deque()

    def __repr__(self) -> str:
        return f"<Suspicion of {', '.join(sorted(self._counts())) or 'nobody'}>"

    def died(self, now_s: float, models: Iterable[str]) -> str | None:
        """Note that a process ended while these models ran. Returns the model to set aside, if it is known by now."""
        self._forget(now_s)
        ran = frozenset(models)
        self._deaths.append((now_s, ran))
        counts = self._counts()
        for model in ran:
            others = [times for other, times in counts.items() if other != model]
            if counts[model] >= DEATHS and counts[model] > max(others, default=0):
                self._deaths.clear()
                return model
        return None

    def suspects(self, now_s: float) -> tuple[str, ...]:
        """The models that ran at a death in the last minute."""
        self._forget(now_s)
        return tuple(sorted(self._counts()))

    def _counts(self) -> Counter[str]:
        return Counter(model for _, models in self._deaths for model in models)

    def _forget(self, now_s: float) -> None:
        while self._deaths and self._deaths[0][0] <= now_s - WITHIN_SECONDS:
            self._deaths.popleft()
