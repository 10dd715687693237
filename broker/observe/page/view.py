"""What the page shows at one moment: the broker's figures over the last seconds, its models and its workers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from broker.host.processes import title_of
from broker.observe.page.html import Page, rendered
from broker.observe.summary import document, figures
from worker_client.system.clock import monotonic
from worker_client.wire.address import runtime_directory

Message = dict[str, Any]

SPAN_SECONDS = 10.0
"""The period of rates and latencies, if there was a request that long ago."""
_APART_SECONDS = 2.0  # of the answers that are kept
_FRESH_SECONDS = 0.5
_PATIENCE_SECONDS = 3.0
_PAUSE_SECONDS = 0.01
_MOST_TITLES = 200


class TooBusy(Exception):
    """Another thread has been at it for too long."""


class View:
    """Any thread asks; one at a time puts together what all are given who ask within half a second.

    `statistics` and `models` give what `onesession stats` and `models` are given.
    """

    def __init__(
        self, version: str, statistics: Callable[[], Message], models: Callable[[], Mapping[str, Message]]
    ) -> None:
        self._version = version
        self._statistics = statistics
        self._models = models
        self._lock = threading.Lock()
        self._earlier: deque[Message] = deque()
        self._made: tuple[float, Page, Message] | None = None

    def page(self) -> str:
        """HTML. Raises TooBusy."""
        return self._now()[0].html

    def message(self) -> Message:
        """As `onesession stats --json` has it, with the models, and the workers' titles and rates. Raises TooBusy."""
        page, report = self._now()
        return {**report, "page": {"shape": page.shape, "cells": page.cells}}

    def _now(self) -> tuple[Page, Message]:
        limit = monotonic() + _PATIENCE_SECONDS
        while not self._lock.acquire(
            blocking=False
        ):  # without a timeout, which may be counted on the realtime clock
            if monotonic() > limit:
                raise TooBusy
            time.sleep(_PAUSE_SECONDS)
        try:
            if self._made is None or monotonic() - self._made[0] >= _FRESH_SECONDS:
                self._made = (monotonic(), *self._make())
            return self._made[1:]
        finally:
            self._lock.release()

    def _make(self) -> tuple[Page, Message]:
        now = self._statistics()
        before = self._before(now)
        found = figures(now, before)
        report = {
            **document(now, found),
            "name": name_of(now["address"]),
            "version": self._version,
            "seconds": now["time"] - before["time"] if before else now["uptime_seconds"],
            "workers": _workers(now, before),
            "models": _without_places(self._models()),
            "cpu_share": _cpu_share(now, before),
            "refused": {
                kind: n
                for each in now["signatures"]
                if not each["model"]
                for kind, n in each["errors"].items()
            },
        }
        return rendered(report, found, now), report

    def _before(self, now: Message) -> Message | None:
        """The answer of `SPAN_SECONDS` ago, or the last before that."""
        earlier = self._earlier
        while len(earlier) > 1 and now["time"] - earlier[1]["time"] >= SPAN_SECONDS:
            earlier.popleft()
        before = earlier[0] if earlier else None
        if not earlier or now["time"] - earlier[-1]["time"] >= _APART_SECONDS:
            earlier.append(now)
        return before


def name_of(address: str) -> str:
    """As `--name` and `connect` take it: short where it can be."""
    path = Path(address)
    return path.stem if path.parent == runtime_directory() and path.suffix == ".sock" else address


def _workers(now: Message, before: Message | None) -> list[Message]:
    done = {worker["channel"]: worker["requests"] for worker in before["workers"]} if before else {}
    seconds = max(1e-3, now["time"] - before["time"] if before else now["uptime_seconds"])
    found = [
        {
            **worker,
            "requests_per_second": max(0, worker["requests"] - done.get(worker["channel"], 0)) / seconds,
        }
        for worker in now["workers"]
    ]
    found.sort(key=lambda worker: -worker["requests_per_second"])
    for worker in found[:_MOST_TITLES]:
        worker["title"] = title_of(worker["pid"])
    return found


def _cpu_share(now: Message, before: Message | None) -> float:
    seconds = now["time"] - before["time"] if before else now["uptime_seconds"]
    used = now["process"]["cpu_seconds"] - (before["process"]["cpu_seconds"] if before else 0.0)
    return float(used / max(seconds, 1e-3))


_PLACES = ("source", "left_out")


def _without_places(models: Mapping[str, Message]) -> dict[str, Message]:
    """Where models lie on disk is for those who can ask the broker itself."""
    return {
        name: {
            **_without(info, *_PLACES, "signatures"),
            "versions": [_without(version, *_PLACES) for version in info["versions"]],
            "labels": {label: labelled["version"] for label, labelled in info["labels"].items()},
        }
        for name, info in models.items()
    }


def _without(message: Message, *keys: str) -> Message:
    return {key: value for key, value in message.items() if key not in keys}
