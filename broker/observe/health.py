"""Whether the broker is alive, and whether to send it requests, for load balancers and Kubernetes.

alive   the threads on which everything depends make progress
ready   alive, and it takes requests: from the start, when all models are loaded, until it begins to stop
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from worker_client.system.clock import monotonic

PATIENCE_SECONDS = 2.0
"""The time that a thread may take for a round: a light model's run, on a busy machine."""

Call = Callable[[Callable[[], None]], None]


class Health:
    """The health of one broker, for any thread. `threads`: each as a function that has it run an action between two
    rounds."""

    def __init__(self, threads: Mapping[str, Call], patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._threads = dict(threads)
        self._patience_seconds = patience_seconds
        self.stopping = False

    def why_not_alive(self) -> str:
        """Why the broker is not alive; empty if it is."""
        rounds = {name: threading.Event() for name in self._threads}
        for name, call in self._threads.items():
            call(rounds[name].set)
        deadline = monotonic() + self._patience_seconds
        stuck = [name for name, event in rounds.items() if not event.wait(max(0.0, deadline - monotonic()))]
        return f"no progress of {' and '.join(stuck)} in {self._patience_seconds:g} s" if stuck else ""

    def why_not_ready(self) -> str:
        """Why the broker is not ready; empty if it is."""
        return "it is being stopped" if self.stopping else self.why_not_alive()
