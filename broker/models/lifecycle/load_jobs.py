"""Runs the loader's jobs, each in its own thread, so that a job that does not end never blocks other models.

Quick jobs run one at a time: two concurrent loads take twice the memory, and both take longer. A long job continues
while the next one begins; two jobs for one model always run one after the other.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable

from worker_client.interpreter import threads
from worker_client.system.clock import monotonic
from worker_client.wire.errors import Overloaded

ALONE_SECONDS = 10.0
MOST = 32
_CHECK_SECONDS = 0.05


class LoadJobs:
    """The jobs. The loader's thread calls `run`, the jobs call `turn`."""

    def __init__(self, alone_s: float = ALONE_SECONDS) -> None:
        self.alone_s = alone_s
        self._threads: list[threading.Thread] = []
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def run(self, job: Callable[[], None], stopping: Callable[[], bool]) -> None:
        """Run a job; return when it has ended, or has run for a while. Raises Overloaded if too many jobs are still
        running."""
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
        """The lock that a job holds while it changes this model's versions."""
        return self._turns[model]

    def is_busy(self, model: str) -> bool:
        return self._turns[model].locked()

    def join(self, seconds: float) -> bool:
        """Whether all jobs have ended within `seconds`."""
        deadline = monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in self._threads)
