"""What each signature has done so far, and whether it is light or heavy by now.

Written by the thread that runs the model, read by the control thread: a reader may see a count one run behind.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from broker.models.repository import Entry
from broker.models.warmup import LIGHT_LIMIT_US


class EntryStats:
    __slots__ = ("batch_rows", "expected_ns", "failures", "light", "requests", "rows", "runs")

    def __init__(self, entry: Entry) -> None:
        self.requests = 0
        self.rows = 0
        self.runs = 0
        self.failures = 0
        self.batch_rows: Counter[int] = Counter()
        self.light = entry.cost.light
        self.expected_ns = int((entry.cost.p50_us or 0) * 1000)

    def to_message(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "rows": self.rows,
            "runs": self.runs,
            "failures": self.failures,
            "batch_rows": {str(rows): runs for rows, runs in sorted(self.batch_rows.copy().items())},
            "light": self.light,
            "run_us": self.expected_ns / 1000,
        }


class Stats:
    """Counters by signature id."""

    def __init__(self, entries: list[Entry | None]) -> None:
        self._entries = entries
        self.by_id = [EntryStats(entry) if entry is not None else None for entry in entries]

    def ran(self, entry: Entry, requests: int, rows: int, run_ns: int) -> None:
        """Count a run; a moving average of its time, against hysteresis, decides light or heavy."""
        stats = self.by_id[entry.id]
        assert stats is not None
        stats.requests += requests
        stats.rows += rows
        stats.runs += 1
        stats.batch_rows[rows] += 1
        expected = stats.expected_ns = stats.expected_ns + ((run_ns - stats.expected_ns) >> 5)
        if stats.light:
            if expected > _TOO_HEAVY_NS:
                stats.light = False
        elif expected < _LIGHT_AGAIN_NS:
            stats.light = True

    def failed(self, entry: Entry) -> None:
        stats = self.by_id[entry.id]
        assert stats is not None
        stats.requests += 1
        stats.failures += 1

    def is_light(self, entry: Entry) -> bool:
        stats = self.by_id[entry.id]
        assert stats is not None
        return stats.light

    def to_message(self) -> dict[str, Any]:
        """{model: {signature: counters}}"""
        models: dict[str, Any] = {}
        for entry, stats in zip(self._entries, self.by_id):
            if entry is not None and stats is not None:
                models.setdefault(entry.model.spec.name, {})[entry.signature.name] = stats.to_message()
        return models


_TOO_HEAVY_NS = int(2000 * LIGHT_LIMIT_US)
_LIGHT_AGAIN_NS = int(500 * LIGHT_LIMIT_US)
