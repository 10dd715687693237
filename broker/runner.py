"""Runs batches on the thread that calls it: gather, run, scatter.

one request     feeds straight from its slot ---------> run --> copy into its output region
several         gather rows into aligned buffers -----> run --> each slot's rows into its output region
                (a batch that fails is run again one by one, so that the guilty request fails alone)
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Hashable
from time import monotonic_ns

import numpy as np

from broker.batcher import Batcher
from broker.models.aligned import aligned_empty
from broker.slot import Slot
from worker_client.wire.errors import BrokerError, BrokerUnavailable, DeadlineExceeded, ModelFailed

_log = logging.getLogger("onesession.runner")

_KEPT_BYTES = 256 << 20  # of batch buffers, for each thread that runs models


class Runner:
    """One thread's runner: it owns the batch buffers, so each thread has its own."""

    def __init__(self) -> None:
        self._buffers: dict[Hashable, list[np.ndarray]] = {}

    def run(self, batch: list[Slot]) -> None:
        """Run requests of one group, and complete each of them whatever happens. Raises nothing."""
        try:
            if len(batch) == 1:
                self._run_one(batch[0])
            else:
                self._run_several(batch)
        except Exception as error:  # a fault of the broker, or of a worker that meddles with its semaphores
            _log.exception("a batch of %d requests failed outside the model", len(batch))
            for slot in batch:
                _give_up(slot, error)

    def _run_one(self, slot: Slot) -> None:
        """Feed it from where the worker wrote it."""
        started = monotonic_ns()
        if slot.unwanted(started):
            slot.fail(_dropped(slot))
            return
        plan = slot.plan
        serving = plan.serving
        try:
            outputs = serving.run(*plan.feeds)
        except Exception as error:
            slot.fail(_as_broker_error(error))
            serving.failed()
            return
        finished = monotonic_ns()
        slot.complete(outputs, started, finished, plan.rows)
        serving.ran(1, plan.rows, finished - started)

    def _run_several(self, batch: list[Slot]) -> None:
        now = monotonic_ns()
        wanted = [slot for slot in batch if not slot.unwanted(now)]
        if len(wanted) < 2:
            for slot in batch:
                self._run_one(slot)
            return
        for slot in batch:
            if slot not in wanted:
                self._run_one(slot)
        self._run_joined(wanted)

    def _run_joined(self, batch: list[Slot]) -> None:
        serving = batch[0].plan.serving
        rows = sum([slot.plan.rows for slot in batch])
        feeds = self._gather(batch, rows)
        started = monotonic_ns()
        try:
            outputs = serving.run(*feeds)
        except Exception:
            outputs = ()
        finished = monotonic_ns()
        if not outputs or any(output.shape[:1] != (rows,) for output in outputs):
            # One of them is guilty, or the model gives other rows than it took: let each answer for itself.
            for slot in batch:
                self._run_one(slot)
            return
        start = 0
        for slot in batch:
            end = start + slot.plan.rows
            slot.complete([output[start:end] for output in outputs], started, finished, rows)
            start = end
        serving.ran(len(batch), rows, finished - started)

    def _gather(self, batch: list[Slot], rows: int) -> list[np.ndarray]:
        first = batch[0].plan
        buffers = self._buffers.get(first.group)
        if buffers is None or len(buffers[0]) < rows:
            size = max(rows, first.serving.entry.max_batch_size)
            buffers = [aligned_empty((size, *feed.shape[1:]), feed.dtype) for feed in first.feeds]
            self._keep(first.group, buffers)
        start = 0
        for slot in batch:
            end = start + slot.plan.rows
            for buffer, feed in zip(buffers, slot.plan.feeds):
                buffer[start:end] = feed
            start = end
        return [buffer[:rows] for buffer in buffers]

    def _keep(self, group: Hashable, buffers: list[np.ndarray]) -> None:
        """Remember them for the next batch of this group; workers choose how many groups there are."""
        self._buffers.pop(group, None)
        kept = sum(buffer.nbytes for kept in self._buffers.values() for buffer in kept)
        if kept + sum(buffer.nbytes for buffer in buffers) > _KEPT_BYTES:
            self._buffers.clear()
        self._buffers[group] = buffers


class HeavyRunner:
    """A heavy model's own thread, so that it delays nobody else's model."""

    def __init__(self, name: str, on_orphan: Callable[[], None]) -> None:
        self._runner = Runner()
        self._inbox: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
        self._batcher: Batcher[Slot] = Batcher()
        self._on_orphan = on_orphan  # told when a run has ended whose worker is gone
        self.busy = False
        self._thread = threading.Thread(target=self._serve, name=f"onesession-runner-{name}", daemon=True)
        self._thread.start()

    def put(self, slot: Slot) -> None:
        self._inbox.put(slot)

    def stop(self) -> None:
        """Finish what was put, then end."""
        self._inbox.put(None)

    def join(self, timeout: float) -> bool:
        """True if the thread has ended within `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        stopping = False
        while not stopping or self._batcher:
            if not self._batcher:
                stopping |= self._receive(self._inbox.get())
            while not self._inbox.empty():
                stopping |= self._receive(self._inbox.get())
            if self._batcher:
                self._run_next()

    def _run_next(self) -> None:
        self.busy = True
        batch = self._batcher.next_batch()
        self._runner.run(batch)
        self.busy = False
        if any(slot.channel.closed for slot in batch):
            self._on_orphan()

    def _receive(self, slot: Slot | None) -> bool:
        if slot is None:
            return True
        plan = slot.plan
        self._batcher.add(slot, plan.group, plan.rows, plan.serving.entry.max_batch_size)
        return False


def _give_up(slot: Slot, error: Exception) -> None:
    if slot.busy:
        try:
            slot.fail(BrokerError(f"the broker failed on this request: {type(error).__name__}: {error}"))
        except Exception:
            slot.channel.closed = True


def _dropped(slot: Slot) -> BrokerError:
    if slot.channel.closed:  # read only if the worker is still there and has closed its client
        return BrokerUnavailable("dropped before it ran: the connection to the broker was closed")
    return DeadlineExceeded("dropped before it ran: nobody waits for it any more")


def _as_broker_error(error: Exception) -> BrokerError:
    return error if isinstance(error, BrokerError) else ModelFailed(f"{type(error).__name__}: {error}")
