"""Requests that were answered with an error: counted by model and class, and logged, but not each of a flood."""

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
"""A completion of a use of a slot that had been handed back. It was refused."""
FOREIGN_ANSWER = "foreign_answer"
"""What a worker found in place of the answer to what it had asked. It closed its channel and ran the call again."""
FAULTS = (LATE_COMPLETION, FOREIGN_ANSWER)


class SignatureKey(NamedTuple):
    """What a request was for. Empty where the request did not make that out."""

    model: str = ""
    version: int = 0
    signature: str = ""

    def __str__(self) -> str:
        return label_of(*self) if self.model else "no model"


class Failures:
    """Of one broker. Any thread. Failing is no hot path: it takes a lock."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[SignatureKey, str]] = Counter()
        self._faults: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
        self._lock = threading.Lock()
        self._lines = RateLimit(_LINE_SECONDS)

    def __repr__(self) -> str:
        return f"<Failures, {sum(self.counts().values())} so far>"

    def counts(self) -> dict[tuple[SignatureKey, str], int]:
        """How often a request for this got an error of this class."""
        with self._lock:
            return dict(self._counts)

    def of(self, signature_key: SignatureKey) -> dict[str, int]:
        """By class."""
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
        """How often each of FAULTS, which must never happen, did."""
        with self._lock:
            return dict(self._faults)

    def fault(self, kind: str, text: str, *, stack: bool = True) -> None:
        """Count and log what must never happen; with the `stack`, where it was noticed in this process."""
        with self._lock:
            self._faults[kind] += 1
            left_out = self._lines.left_out(kind, monotonic())
        if left_out is not None:
            more = f" ({left_out} more like this in the meantime)" if left_out else ""
            line = " ".join(text.split())[:_MAX_TEXT]
            _log.error("%s%s", line, more, stack_info=stack, extra={"fault": kind})
