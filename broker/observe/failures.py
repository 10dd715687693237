"""Requests that were answered with an error: counted by model and class, and logged, but not each of a flood."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from time import monotonic
from typing import NamedTuple

from broker.observe.rate import RateLimit
from worker_client.wire.signature import label_of

_log = logging.getLogger("onesession.requests")

_LINE_SECONDS = 10.0
_MAX_TEXT = 400
_LEVELS = {
    "DeadlineExceeded": logging.INFO,
    "BrokerUnavailable": logging.DEBUG,  # its worker has gone
    "BrokerError": logging.ERROR,
}


class Asked(NamedTuple):
    """What a request was for. Empty where the request did not make that out."""

    model: str = ""
    version: int = 0
    signature: str = ""

    def __str__(self) -> str:
        return label_of(*self) if self.model else "no model"


class Failures:
    """Of one broker. Any thread. Failing is no hot path: it takes a lock."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[Asked, str]] = Counter()
        self._lock = threading.Lock()
        self._lines = RateLimit(_LINE_SECONDS)

    def __repr__(self) -> str:
        return f"<Failures, {sum(self.counts().values())} so far>"

    def counts(self) -> dict[tuple[Asked, str], int]:
        """How often a request for this got an error of this class."""
        with self._lock:
            return dict(self._counts)

    def of(self, asked: Asked) -> dict[str, int]:
        """By class."""
        return {kind: count for (about, kind), count in self.counts().items() if about == asked}

    def add(self, asked: Asked, error: Exception, pid: int) -> None:
        kind = type(error).__name__
        with self._lock:
            self._counts[asked, kind] += 1
            left_out = self._lines.left_out((asked, kind), monotonic())
        if left_out is None:
            return
        text = " ".join(str(error).split())[:_MAX_TEXT]
        more = f" ({left_out} more like this in the meantime)" if left_out else ""
        _log.log(
            _LEVELS.get(kind, logging.WARNING),
            "a request of pid %d failed: %s: %s: %s%s",
            *(pid, asked, kind, text, more),
            extra={"model": asked.model, "error": kind, "worker": pid, "left_out": left_out},
        )
