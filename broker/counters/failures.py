"""Counts requests that were answered with an error, by model and class, and logs them at a limited rate."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import NamedTuple

from broker.counters.log_rate import RateLimit
from worker_client.system.clock import monotonic
from worker_client.wire.signature import label_of

_log = logging.getLogger("onesession.requests")

_LINE_SECONDS = 10.0
_MAX_TEXT = 400
_LEVELS = {
    "DeadlineExceeded": logging.INFO,
    "BrokerUnavailable": logging.DEBUG,  # its worker has gone
    "BrokerError": logging.ERROR,
}


LATE_COMPLETION = "late_completion"
"""A second completion of one use of a slot. It was refused."""
FOREIGN_ANSWER = "foreign_answer"
"""A worker found a completion that was not the answer to its request. It closed its channel and repeated the call."""
FAULTS = (LATE_COMPLETION, FOREIGN_ANSWER)


class SignatureKey(NamedTuple):
    """The model and signature of a request. Empty if the request does not name them."""

    model: str = ""
    version: int = 0
    signature: str = ""

    def __str__(self) -> str:
        return label_of(*self) if self.model else "no model"


class Failures:
    """The failures of one broker. Used by any thread, under a lock: failures are not on the hot path."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[SignatureKey, str]] = Counter()
        self._faults: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
        self._lock = threading.Lock()
        self._lines = RateLimit(_LINE_SECONDS)

    def __repr__(self) -> str:
        return f"<Failures, {sum(self.counts().values())} so far>"

    def counts(self) -> dict[tuple[SignatureKey, str], int]:
        """How many requests for each signature got an error of each class."""
        with self._lock:
            return dict(self._counts)

    def of(self, signature_key: SignatureKey) -> dict[str, int]:
        """The counts of one signature by class."""
        return {kind: count for (about, kind), count in self.counts().items() if about == signature_key}

    def add(self, signature_key: SignatureKey, error: Exception, pid: int) -> None:
        kind = type(error).__name__
        with self._lock:
            self._counts[signature_key, kind] += 1
            left_out = self._lines.left_out((signature_key, kind), monotonic())
        if left_out is None:
            return
        text = " ".join(str(error).split())[:_MAX_TEXT]
        more = f" ({left_out} more like this in the meantime)" if left_out else ""
        _log.log(
            _LEVELS.get(kind, logging.WARNING),
            "a request of pid %d failed: %s: %s: %s%s",
            *(pid, signature_key, kind, text, more),
            extra={"model": signature_key.model, "error": kind, "worker": pid, "left_out": left_out},
        )

    def faults(self) -> dict[str, int]:
        """How often each of FAULTS happened, which must never happen."""
        with self._lock:
            return dict(self._faults)

    def fault(self, kind: str, text: str, *, stack: bool = True) -> None:
        """Count and log an event that must never happen; `stack` adds where this process noticed it."""
        with self._lock:
            self._faults[kind] += 1
            left_out = self._lines.left_out(kind, monotonic())
        if left_out is not None:
            more = f" ({left_out} more like this in the meantime)" if left_out else ""
            line = " ".join(text.split())[:_MAX_TEXT]
            _log.error("%s%s", line, more, stack_info=stack, extra={"fault": kind})
