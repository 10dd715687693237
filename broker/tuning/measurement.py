"""Times one setting of a loaded model, in a process that does nothing else.

Every session has threads of its own here, the inter-op pool included. oneDNN keeps a plan for each shape and calling
thread, with its number of threads: a thread that has run a model with one number of intra-op threads stays slow with
another number.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from statistics import median
from typing import Any

from broker.models.model import Run
from broker.models.warmup import zeros
from broker.tuning.setting import Sample
from worker_client.system.clock import perf_counter
from worker_client.wire.signature import Signature

POOL_WARM_RUNS = 2
"""Runs before the first visit that are not counted: in the pool, each op may run on a thread that has not run it
yet."""


@dataclass(frozen=True, slots=True)
class Task:
    """The task of each thread of a visit."""

    caller_thread: bool
    rows: int
    seconds: float
    least_runs: int
    start: threading.Barrier


class RunnerThread:
    """A thread that runs one session's callables with its own feeds. It puts its results into `results`."""

    def __init__(
        self, runs: dict[bool, Run], signature: Signature, free: int, results: queue.SimpleQueue[Any]
    ) -> None:
        self._runs = runs
        self._signature = signature
        self._free = free
        self._results = results
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._warm: set[tuple[bool, int]] = set()
        self._thread = threading.Thread(target=self._serve, name="onesession-measure", daemon=True)
        self._thread.start()

    def put(self, task: Task) -> None:
        self._tasks.put(task)

    def stop(self) -> None:
        self._tasks.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._results.put(self._do(task))
            except Exception as error:
                task.start.abort()
                self._results.put(error)

    def _do(self, task: Task) -> tuple[list[float], float]:
        """The time of each run, and of all runs together, in seconds."""
        run = self._runs[task.caller_thread]
        feeds = zeros(self._signature, task.rows, self._free)
        if (task.caller_thread, task.rows) not in self._warm:
            for _ in range(1 if task.caller_thread else POOL_WARM_RUNS):
                run(*feeds)
            self._warm.add((task.caller_thread, task.rows))
        task.start.wait()
        taken: list[float] = []
        begun = now = perf_counter()
        while len(taken) < task.least_runs or now - begun < task.seconds:
            started = now
            run(*feeds)
            now = perf_counter()
            taken.append(now - started)
        return taken, now - begun


class MeasuredSession:
    """One session of one model and the threads that run it. `runs`: {whether on the caller's thread: callable}."""

    def __init__(self, runs: dict[bool, Run], signature: Signature, free: int) -> None:
        self._runs = runs
        self._signature = signature
        self._free = free
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._runners: list[RunnerThread] = []

    def measure(
        self, *, caller_thread: bool, side_by_side: int, rows: int, seconds: float, least_runs: int
    ) -> Sample:
        """Measure the session. Raises the exception of a run."""
        begun = perf_counter()
        while len(self._runners) < side_by_side:
            self._runners.append(RunnerThread(self._runs, self._signature, self._free, self._results))
        task = Task(caller_thread, rows, seconds, least_runs, threading.Barrier(side_by_side))
        for runner in self._runners[:side_by_side]:
            runner.put(task)
        found = [self._results.get() for _ in range(side_by_side)]
        errors = [result for result in found if isinstance(result, Exception)]
        if errors:
            # Raised in threads that waited for the failed one.
            raise next((e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0])
        taken = [seconds for times, _ in found for seconds in times]
        rate = sum(rows * len(times) / together for times, together in found)
        return Sample(median(taken) * 1e6, rate, perf_counter() - begun)

    def close(self) -> None:
        for runner in self._runners:
            runner.stop()
