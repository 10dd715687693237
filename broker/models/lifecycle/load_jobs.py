"""What the loader does for models, each job in a thread of its own, so that one without an end holds up no other model.

One at a time as long as they are quick: two loads side by side take twice the memory, and both take longer. A job that
goes on is left to itself, and the next one begins; two for one model still come one after the other.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable

from worker_client.system import threads
from worker_client.system.clock import monotonic
from worker_client.wire.errors import Overloaded

ALONE_SECONDS = 10.0
MOST = 32
_CHECK_SECONDS = 0.05


class LoadJobs:
    """`run` is called by the loader's thread only, `turn` by the jobs."""

    def __init__(self, alone_s: float = ALONE_SECONDS) -> None:
        self.alone_s = alone_s
        self._threads: list[threading.Thread] = []
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def run(self, job: Callable[[], None], stopping: Callable[[], bool]) -> None:
        """Return when it is done, or has gone on for a while. Raises Overloaded if too many of them go on."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= MOST:
            raise Overloaded(f"{MOST} loads and reloads are still under way; the log names their models")
        thread = threading.Thread(target=job, name="onesession-load-job", daemon=True)
        threads.start(thread)
        self._threads.append(thread)
        deadline = monotonic() + self.alone_s
        while thread.is_alive() and monotonic() < deadline and not stopping():
            thread.join(_CHECK_SECONDS)

    def turn(self, model: str) -> threading.Lock:
        """To be held by who changes this model's versions."""
        return self._turns[model]

    def is_busy(self, model: str) -> bool:
        return self._turns[model].locked()

    def join(self, seconds: float) -> bool:
        """Whether all have ended within the time."""
        deadline = monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in self._threads)
