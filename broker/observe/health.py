"""Whether the broker lives, and whether to send it requests: what a load balancer or Kubernetes asks.

alive   the threads on which all depends go round
ready   alive, and it takes requests: from the start, when all models are loaded, until it begins to stop
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from worker_client.system.clock import monotonic

PATIENCE_SECONDS = 2.0
"""What a thread may take to go round: a light model's run, and a scheduler that is busy elsewhere."""

Call = Callable[[Callable[[], None]], None]


class Health:
    """Any thread asks. `threads`: each as the way to have it do something between two rounds."""

    def __init__(self, threads: Mapping[str, Call], patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._threads = dict(threads)
        self._patience_seconds = patience_seconds
        self.stopping = False

    def why_not_alive(self) -> str:
        """Empty if it lives."""
        rounds = {name: threading.Event() for name in self._threads}
        for name, call in self._threads.items():
            call(rounds[name].set)
        deadline = monotonic() + self._patience_seconds
        stuck = [name for name, event in rounds.items() if not event.wait(max(0.0, deadline - monotonic()))]
        return f"no progress of {' and '.join(stuck)} in {self._patience_seconds:g} s" if stuck else ""

    def why_not_ready(self) -> str:
        """Empty if it is."""
        return "it is being stopped" if self.stopping else self.why_not_alive()
