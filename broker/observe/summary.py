"""Summarises a period from the broker's statistics at its beginning and its end. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from broker.counters.histogram import Histogram
from broker.counters.thread_counters import STAGES

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one signature of one version, over some seconds."""

    model: str
    version: int
    signature: str
    light: bool | None
    why: str
    stateful: str
    seconds: float
    requests: int
    inline_runs: int
    errors: dict[str, int]
    rows: int
    runs: int
    padded_rows: int
    sizes: dict[int, int]
    copied_bytes: int
    stages: dict[str, Histogram]

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds if self.seconds > 0 else 0.0

    @property
    def rows_a_run(self) -> float:
        return self.rows / self.runs if self.runs else 0.0

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    def us(self, stage: str, q: float) -> float:
        return self.stages[stage].quantile_ns(q) / 1000

    def to_message(self) -> Message:
        """Plain values; times in microseconds."""
        return {
            "model": self.model,
            "version": self.version,
            "signature": self.signature,
            "light": self.light,
            "why": self.why,
            "stateful": self.stateful,
            "requests": self.requests,
            "requests_per_second": self.per_second,
            "errors": self.errors,
            "rows": self.rows,
            "runs": self.runs,
            "inline_runs": self.inline_runs,
            "rows_per_run": self.rows_a_run,
            "padded_rows": self.padded_rows,
            "batch_rows": {str(rows): runs for rows, runs in sorted(self.sizes.items())},
            "copied_bytes_per_request": self.copied_bytes / self.requests if self.requests else 0.0,
            "us": {stage: _quantiles(histogram) for stage, histogram in self.stages.items()},
        }


def _quantiles(histogram: Histogram) -> Message:
    quantiles = {f"p{q * 100:g}": histogram.quantile_ns(q) / 1000 for q in (0.5, 0.9, 0.99)}
    return {"mean": histogram.mean_ns / 1000, **quantiles}


def figures(now: Message, before: Message | None = None) -> list[Figures]:
    """The figures of each signature, between two answers to `stats`; since the broker's start if there is no earlier
    answer, or if that came from another broker."""
    if before is not None and (before["pid"] != now["pid"] or before["time"] > now["time"]):
        before = None
    seconds = now["uptime_seconds"] if before is None else now["time"] - before["time"]
    earlier = {_key(each): each for each in (before or {"signatures": []})["signatures"]}
    return [
        _of_signature(each, earlier.get(_key(each)), seconds) for each in now["signatures"] if each["model"]
    ]


def shown(found: list[Figures], now: Message) -> list[Figures]:
    """The figures to show: for a model that was called, only the signatures that were called."""
    called = {_key(each) for each in now["signatures"] if each["requests"] or each["errors"]}
    models = {(model, version) for model, version, _ in called}
    return [
        each
        for each in found
        if (each.model, each.version) not in models or (each.model, each.version, each.signature) in called
    ]


def label_of(figure: Figures, found: list[Figures]) -> str:
    """As short as possible: with the version or the signature only if a model has several."""
    same = [each for each in found if each.model == figure.model]
    label = figure.model
    if len({each.signature for each in same}) > 1:
        label += f":{figure.signature}"
    if len({each.version for each in same}) > 1:
        label += f"@{figure.version}"
    return label


def document(now: Message, found: list[Figures]) -> Message:
    """What `onesession stats --json` prints: the broker's answer with these figures in place of the counters."""
    rest = {key: value for key, value in now.items() if key != "signatures"}
    return {**rest, "signatures": [figure.to_message() for figure in found]}


def _key(signature: Message) -> tuple[str, int, str]:
    return signature["model"], signature["version"], signature["signature"]


def _of_signature(now: Message, before: Message | None, seconds: float) -> Figures:
    counters = {
        key: now[key] - (before[key] if before else 0)
        for key in ("requests", "rows", "runs", "inline_runs", "padded_rows", "output_bytes", "joined_bytes")
    }
    copied_bytes = counters.pop("output_bytes") + counters.pop("joined_bytes")
    sizes: Counter[int] = Counter(dict(map(tuple, now["sizes"])))
    errors: Counter[str] = Counter(now["errors"])
    if before is not None:
        sizes.subtract(dict(map(tuple, before["sizes"])))
        errors.subtract(before["errors"])
    stages = {}
    for stage in STAGES:
        stages[stage] = Histogram.from_message(now["stages"][stage])
        if before is not None:
            stages[stage] = stages[stage].since(Histogram.from_message(before["stages"][stage]))
    return Figures(
        *_key(now),
        light=now["light"],
        why=now["why"],
        stateful=now["stateful"],
        seconds=seconds,
        errors=dict(+errors),
        sizes=dict(+sizes),
        copied_bytes=copied_bytes,
        stages=stages,
        **counters,
    )
