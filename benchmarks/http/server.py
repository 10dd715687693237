"""gunicorn with one of the apps: started, asked, looked at, ended. It ends with this process, however that ends.

This process makes the listening socket and gunicorn inherits it: requests can be sent from the start, and wait in its
queue.
"""

from __future__ import annotations

import os
import socket
import statistics
import sys
from collections.abc import Mapping
from contextlib import closing
from time import monotonic
from typing import Any

from benchmarks import memory
from benchmarks.http import load
from benchmarks.http.contenders import APPS, HttpContender
from benchmarks.http.exchange import BadAnswer, ask
from benchmarks.server_process import ServerProcess, end_with_us
from benchmarks.workloads import Checker, Workload

BACKLOG = 2048  # gunicorn's own
START_SECONDS = 90.0
WARM_UP_REQUESTS = 50
"""Average number of warm-up requests per worker. Each worker gets at least one."""
_CONNECTIONS = 2  # for each worker, so that none waits for work


class GunicornServer(ServerProcess):
    """`address` takes requests from the start."""

    def __init__(
        self, kind: HttpContender, workload: Workload, workers: int, environment: Mapping[str, str]
    ) -> None:
        self._workers = workers
        self._inputs = workload.inputs
        self._checker = Checker(workload)
        self.first_answers_ms: dict[int, float] = {}
        """The time of each worker, by its process id, from its fork to an answer of its model."""
        with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
            self.address: tuple[str, int] = listener.getsockname()
            command = [
                *(sys.executable, "-m", "gunicorn", f"{APPS}.{kind.app}:app"),
                *("--config", f"python:{APPS}.{kind.conf}", "--bind", f"fd://{listener.fileno()}"),
                *("--workers", str(workers), "--log-level", "warning"),
                *("--name", f"onesession-http-{os.getpid()}"),  # a dirty arbiter ends others of the same name
            ]
            super().__init__(
                "gunicorn",
                command,
                {**environment, **kind.environment},
                pass_fds=[listener.fileno()],
                preexec_fn=end_with_us,
            )

    def answer_first(self) -> float:
        """Seconds from the start to the first answer. Raises BadAnswer, WrongAnswer."""
        answer = ask(self.address, self._inputs[0], START_SECONDS)
        seconds = monotonic() - self.began
        self._checker.check(0, answer.y)
        return seconds

    def warm_up(self) -> None:
        """Return when every worker has answered. Raises BadAnswer, WrongAnswer."""
        limit = monotonic() + START_SECONDS
        connections = _CONNECTIONS * self._workers
        with closing(load.exchanges(self.address, self._inputs, connections)) as exchanges:
            for number, (exchange, answer) in enumerate(exchanges, 1):
                self._checker.check(exchange.index, answer.y)
                self.first_answers_ms[answer.pid] = answer.first_answer_ms
                all_there = len(self.first_answers_ms) >= self._workers
                if all_there and number >= WARM_UP_REQUESTS * self._workers:
                    return
                if monotonic() >= limit:
                    seen = len(self.first_answers_ms)
                    raise BadAnswer(
                        f"after {START_SECONDS:g} s, {seen} of {self._workers} workers have answered"
                    )

    @property
    def checked(self) -> int:
        """Answers so far, all compared with the expected ones."""
        return self._checker.checked

    def memory(self) -> dict[str, Any]:
        """PSS in MB of the whole tree, of the mean worker, and of each process that is not a worker."""
        processes = memory.tree(self.pid)
        workers = [each for each in processes if each.pid in self.first_answers_ms]
        others = [each for each in processes if each.pid not in self.first_answers_ms]
        return {
            "memory_mb": sum(each.pss_bytes for each in processes) / memory.MB,
            "worker_mb": statistics.mean(each.pss_bytes for each in workers) / memory.MB,
            "others_mb": [round(each.pss_bytes / memory.MB, 1) for each in others],
        }
