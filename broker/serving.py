"""A signature being served: what runs it, whether it is light or heavy by now, and what it has done so far.

Written by the thread that runs the model, read by the control thread: a reader may see a count one run behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from broker.models.repository import Entry
from broker.models.warmup import LIGHT_LIMIT_US

_TOO_HEAVY_NS = 2000 * LIGHT_LIMIT_US  # hysteresis: twice the limit of warm-up, and half of it
_LIGHT_AGAIN_NS = 500 * LIGHT_LIMIT_US


class Serving:
    """One entry of the repository in service. `light` says that it runs on the intake thread."""

    __slots__ = ("batch_rows", "entry", "expected_ns", "failures", "light", "requests", "rows", "run", "runs")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.run = entry.run
        self.light = entry.cost.light
        self.expected_ns = int((entry.cost.p50_us or 0) * 1000)
        self.requests = 0
        self.rows = 0
        self.runs = 0
        self.failures = 0
        self.batch_rows: Counter[int] = Counter()

    def __repr__(self) -> str:
        return f"<Serving {self.entry!r} {'light' if self.light else 'heavy'}>"

    @property
    def model(self) -> str:
        return self.entry.model.spec.name

    def ran(self, requests: int, rows: int, run_ns: int) -> None:
        """Count a run. A moving average of the time that runs take decides light or heavy."""
        self.requests += requests
        self.rows += rows
        self.runs += 1
        self.batch_rows[rows] += 1
        self.expected_ns += (run_ns - self.expected_ns) >> 5
        if self.light:
            self.light = self.expected_ns < _TOO_HEAVY_NS
        else:
            self.light = self.expected_ns < _LIGHT_AGAIN_NS

    def failed(self) -> None:
        self.requests += 1
        self.failures += 1

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


def describe(servings: Iterable[Serving | None]) -> dict[str, Any]:
    """{model: {signature: counters}}"""
    models: dict[str, Any] = {}
    for serving in servings:
        if serving is not None:
            models.setdefault(serving.model, {})[serving.entry.signature.name] = serving.to_message()
    return models
