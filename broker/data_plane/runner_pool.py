"""A heavy model's own threads, so that it delays no other model.

intake --put--> queue (under the lock) --next_batch--> thread 1 .. max_concurrency, each with a Runner

A thread starts when there is work for one more, and stays.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from broker.counters.concurrent_runs import ConcurrentRuns
from broker.counters.run_record import RunRecord
from broker.data_plane.runner import Runner
from broker.data_plane.split import Runnable, split
from broker.data_plane.tracer import Tracer
from broker.scheduling.probation import Probation
from broker.scheduling.queue import Queue
from broker.scheduling.request import Delay, QueueLimits
from worker_client.interpreter import threads
from worker_client.ipc import own_broker
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import Overloaded

_log = logging.getLogger("onesession.pool")


class RunnerPool:
    """The threads of one model. `put` and `stop` are called on the intake thread. Each request that was put is run,
    also after `stop`."""

    def __init__(
        self,
        model: str,
        concurrency: int,
        on_orphan: Callable[[], None],
        tracer: Tracer,
        record: RunRecord,
        probation: Probation,
        concurrent_runs: ConcurrentRuns,
    ) -> None:
        self.model = model
        self.running = 0  # batches being run now
        self.runners: list[Runner] = []
        self._tracer = tracer
        self._record = record
        self._probation = probation
        self._concurrent_runs = concurrent_runs
        self._concurrency = concurrency
        self._on_orphan = on_orphan  # called when a run has ended whose worker is gone
        self._queue: Queue[Runnable] = Queue(split)
        self._changed = threading.Condition(threading.Lock())
        self._idle = 0
        self._written_off: set[Runner] = set()
        self._stopping = False
        self._threads: list[threading.Thread] = []
        self._logged = False  # whether it was logged that threads are missing

    def __repr__(self) -> str:
        return f"<RunnerPool of {self.model}, {self.running} of {self._concurrency} running>"

    def put(self, request: Runnable) -> None:
        with self._changed:
            if not self._idle and len(self._threads) < self._concurrency:
                try:
                    self._start_thread()
                except Overloaded as error:
                    if not self._threads:
                        request.fail(request.use, error)
                        return
                    self._tell_once(error)
            self._queue.add(request)
            if self._idle:
                self._changed.notify()

    def waiting(self, limits: QueueLimits) -> tuple[int, int, int]:
        """Rows and bytes that wait, and requests held because the queue is full."""
        with self._changed:
            return self._queue.waiting(limits)

    def write_off(self, runner: Runner) -> bool:
        """Continue without this runner, whose run does not end. False if no other thread is left to do the work."""
        with self._changed:
            if runner not in self._written_off:
                self._written_off.add(runner)
                self.running -= 1
            return len(self._written_off) < self._concurrency

    def stop(self) -> None:
        """Have the threads finish all requests, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def join(self, timeout: float) -> bool:
        """True if the threads have ended within `timeout` seconds."""
        deadline = monotonic_ns() + int(timeout * 1e9)
        for thread in self._threads:
            thread.join(max(0.0, (deadline - monotonic_ns()) / 1e9))
        return not any(thread.is_alive() for thread in self._threads)

    def _start_thread(self) -> None:
        name = f"onesession-runner-{self.model}-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        threads.start(thread)
        self._threads.append(thread)

    def _tell_once(self, error: Overloaded) -> None:
        if not self._logged:
            self._logged = True
            _log.warning(
                "model %r has %d of its %d threads: %s",
                self.model,
                len(self._threads),
                self._concurrency,
                error,
            )

    def _serve(self) -> None:
        runner = Runner(self._tracer, self._record.new_line(), concurrent_runs=self._concurrent_runs)
        self.runners.append(runner)
        own_broker.enter("runs it")
        while self._serve_one(runner):
            pass  # keep no reference to the last batch while waiting for the next: its worker may be gone
        self._concurrent_runs.leave(runner)
        own_broker.leave()

    def _serve_one(self, runner: Runner) -> bool:
        """Wait for a batch and run it; False when there is nothing left to do."""
        batch = self._next_batch()
        if not batch:
            return False
        delay = batch[0].delay
        if self._probation.holds(self.model):
            for request in batch:
                with self._probation.turn:
                    runner.run([request])
        else:
            runner.run(batch)
        self._ended(runner, batch, delay)
        now = monotonic_ns()
        if now > runner.waits.due_ns:
            runner.waits.mark(now)
        if any(request.channel.closed for request in batch):
            self._on_orphan()
        return True

    def _next_batch(self) -> list[Runnable]:
        """Wait for a batch; empty when there is nothing left to do."""
        with self._changed:
            while True:
                now = monotonic_ns()
                batch = self._queue.next_batch(now)
                if batch:
                    self.running += 1
                    return batch
                if self._queue:
                    left_ns = max(0, self._queue.hold_until(now) - now)
                elif self._stopping:
                    return []
                else:
                    left_ns = -1
                self._wait(left_ns)

    def _wait(self, left_ns: int) -> None:
        self._idle += 1
        self._changed.wait(None if left_ns < 0 else left_ns / 1e9)
        self._idle -= 1

    def _ended(self, runner: Runner, batch: Sequence[Runnable], delay: Delay | None) -> None:
        """Count the end of a batch. The delay is passed in, because the slots of the batch may already hold other
        requests."""
        with self._changed:
            if runner in self._written_off:
                self._written_off.remove(runner)  # its run has ended after all
            else:
                self.running -= 1
            self._queue.answered(batch, delay, monotonic_ns())
