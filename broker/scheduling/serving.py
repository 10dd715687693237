"""A signature being served: what runs it, by which policy, whether it is light or heavy by now, and what it has done.

Written by the threads that run the model, read by the control thread: a reader may see a count one run behind.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from broker.models.repository import Entry
from broker.models.spec import AUTO, ModelSpec
from broker.models.warmup import LIGHT_LIMIT_US
from broker.scheduling.delay import AutoDelay, DelayPolicy, FixedDelay, RunCost

_TOO_HEAVY_NS = 2000 * LIGHT_LIMIT_US  # hysteresis: twice the limit of warm-up, and half of it
_LIGHT_AGAIN_NS = 500 * LIGHT_LIMIT_US
_CLIP_NS = 4 * _TOO_HEAVY_NS  # a run that lost its processor for long says little about the model
_MAX_GROUPS = 4096

Ragged = tuple[tuple[int, ...], ...]
"""For each input, the axes along which requests of one group may differ; empty if there are none."""


class Bound:
    """How much of one model may wait."""

    __slots__ = ("max_bytes", "max_rows", "model")

    def __init__(self, spec: ModelSpec) -> None:
        self.model = spec.name
        self.max_rows = spec.max_queue_rows
        self.max_bytes = spec.max_queue_bytes

    def __repr__(self) -> str:
        return f"<Bound of {self.model}: {self.max_rows} rows, {self.max_bytes} bytes>"


class Serving:
    """One entry of the repository in service. `light` says that it runs on the intake thread."""

    __slots__ = (
        "_groups",
        "_lock",
        "_waits",
        "allowed",
        "batch_limit",
        "batch_rows",
        "bound",
        "cost",
        "delay",
        "divisible",
        "entry",
        "expected_ns",
        "failures",
        "light",
        "pad_value",
        "padded_rows",
        "ragged",
        "requests",
        "rows",
        "run",
        "runs",
    )

    def __init__(self, entry: Entry, bound: Bound) -> None:
        self.entry = entry
        self.bound = bound
        self.run = entry.run
        self.expected_ns = int((entry.cost.p50_us or 0) * 1000)
        self.batch_limit = entry.max_batch_size
        self.allowed = entry.model.spec.allowed_batch_sizes if entry.batchable else ()
        self.ragged = _ragged(entry)
        self.pad_value = entry.model.spec.pad_value
        self.divisible = entry.batchable  # until its answers have shown other rows than it was fed
        self.cost = RunCost()
        self.delay = _delay(entry, self.cost)
        self._waits = isinstance(self.delay, FixedDelay)  # which the intake thread never does for long
        self.light = entry.cost.light and not self._waits
        self.requests = 0
        self.rows = 0
        self.runs = 0
        self.failures = 0
        self.padded_rows = 0
        self.batch_rows: Counter[int] = Counter()
        self._groups: dict[Hashable, Hashable] = {}
        self._lock = threading.Lock()  # several runners may run one model

    def __repr__(self) -> str:
        return f"<Serving {self.entry!r} {'light' if self.light else 'heavy'}>"

    @property
    def model(self) -> str:
        return self.entry.model.spec.name

    def group(self, *key: Hashable) -> Hashable:
        """The one object that stands for this group of requests: equal keys give the same."""
        if len(self._groups) >= _MAX_GROUPS:  # workers choose how many there are
            self._groups.clear()
        return self._groups.setdefault((self.entry.id, *key), (self.entry.id, *key))

    def size_of(self, rows: int) -> int:
        """Rows that a batch of so many is padded to."""
        allowed = self.allowed
        if not allowed or not rows or rows >= allowed[-1]:
            return rows
        return allowed[bisect_left(allowed, rows)]

    def ran(self, requests: int, rows: int, run_ns: int, padding: int = 0) -> None:
        """Count a run. A moving average of the time that runs take decides light or heavy."""
        with self._lock:
            self.requests += requests
            self.rows += rows
            self.runs += 1
            self.padded_rows += padding
            self.batch_rows[rows] += 1
            self.expected_ns += (min(run_ns, _CLIP_NS) - self.expected_ns) >> 5
        if self.light:
            self.light = self.expected_ns < _TOO_HEAVY_NS
        elif not self._waits:
            self.light = self.expected_ns < _LIGHT_AGAIN_NS
        if self.delay is not None:
            self.cost.observe(rows + padding, run_ns)

    def failed(self) -> None:
        with self._lock:
            self.requests += 1
            self.failures += 1

    def to_message(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "rows": self.rows,
            "runs": self.runs,
            "failures": self.failures,
            "padded_rows": self.padded_rows,
            "batch_rows": {str(rows): runs for rows, runs in sorted(self.batch_rows.copy().items())},
            "light": self.light,
            "run_us": self.expected_ns / 1000,
        }


def servings_of(entries: Sequence[Entry | None]) -> list[Serving | None]:
    """For each entry its Serving; the signatures of one model share its bound."""
    bounds: dict[str, Bound] = {}
    servings: list[Serving | None] = []
    for entry in entries:
        if entry is None:
            servings.append(None)
        else:
            spec = entry.model.spec
            servings.append(Serving(entry, bounds.setdefault(spec.name, Bound(spec))))
    return servings


def serve_also(servings: list[Serving | None], entry: Entry) -> None:
    """Add an entry that came later, unless it is there. Control thread only; the intake sees it when it is whole."""
    if entry.id == len(servings):
        bounds = {serving.model: serving.bound for serving in servings if serving is not None}
        servings.append(Serving(entry, bounds[entry.model.spec.name]))


def _ragged(entry: Entry) -> Ragged:
    if not entry.batchable or not entry.model.spec.pad_variable_length:
        return ()
    axes = tuple(
        tuple(axis for axis, size in enumerate(spec.shape or ()) if axis and size is None)
        for spec in entry.signature.inputs
    )
    return axes if any(axes) else ()


def _delay(entry: Entry, cost: RunCost) -> DelayPolicy | None:
    max_delay = entry.model.spec.max_delay
    if not entry.batchable or max_delay == 0:
        return None
    if max_delay == AUTO:
        return AutoDelay(cost)
    return FixedDelay(int(float(max_delay) * 1e9), cost)


def describe(servings: Iterable[Serving | None]) -> dict[str, Any]:
    """{model: {signature: counters}}"""
    models: dict[str, Any] = {}
    for serving in servings:
        if serving is not None:
            models.setdefault(serving.model, {})[serving.entry.signature.name] = serving.to_message()
    return models
