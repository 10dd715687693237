"""Probation after the broker's process died: the suspects run one request at a time, and no two of them concurrently.

So if one of them ends the process again, the request that ran is known to be the cause, and other calls are not blamed.
Probation ends after a minute; a request that ends the process is sent again long before that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from worker_client.system.clock import monotonic_ns

_SECONDS = 60.0


class Probation:
    """The models on probation. Used by any thread. Requests of other models only pay for a check of `active`."""

    def __init__(self, models: Iterable[str] = ()) -> None:
        self._models = set(models)
        self._until_ns = monotonic_ns() + int(_SECONDS * 1e9)
        self.active = bool(self._models)
        self.turn = threading.Lock()
        """Held around each run of one of the models."""

    def __repr__(self) -> str:
        return f"<Probation of {', '.join(sorted(self._models)) or 'nobody'}>"

    def holds(self, model: str) -> bool:
        return self.active and model in self._models

    def begin(self, model: str) -> None:
        """Put this model on probation for a minute from now."""
        self._models = self._models | {model}
        self._until_ns = monotonic_ns() + int(_SECONDS * 1e9)
        self.active = True

    def update(self, now_ns: int) -> None:
        """End the probation if the minute is over."""
        if self.active and now_ns >= self._until_ns:
            self.active = False
            self._models = set()
