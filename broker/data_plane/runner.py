"""Runs batches on the thread that calls it.

one request     feeds straight from its slot ---------> run --> copy into its output region
several         gather rows into aligned buffers -----> run --> each slot's rows into its output region
                (the requests of a failed batch run again one by one, so that the guilty one fails alone)

The intake's runner leaves the rest of such a batch to the model's own threads once the model has turned out heavy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import count

import numpy as np

from broker.counters.concurrent_runs import ConcurrentRuns
from broker.counters.counted import counted
from broker.counters.run_record import STARTED_NS, RunLine, RunRecord
from broker.counters.thread_counters import ThreadCounters
from broker.data_plane.gather import Gatherer, cut, padding_pays
from broker.data_plane.served_signature import ServedSignature
from broker.data_plane.slot import Slot
from broker.data_plane.split import Runnable, other_rows
from broker.data_plane.tracer import Tracer
from broker.host.processor_wait import ProcessorWait
from broker.own_process.float_mode import flush_denormals
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import (
    BrokerError,
    ConnectionClosed,
    DeadlineExceeded,
    ModelFailed,
    Overloaded,
    StaleSignature,
)
from worker_client.wire.layout import BESIDE, JOINED
from worker_client.wire.layout import STARTED_NS as SLOT_STARTED_NS

_log = logging.getLogger("onesession.runner")

_numbers = count(1)


class Runner:
    """One thread's runner: it owns the batch buffers, so each thread has its own."""

    def __init__(
        self,
        tracer: Tracer,
        line: RunLine | None = None,
        inline: bool = False,
        concurrent_runs: ConcurrentRuns | None = None,
    ) -> None:
        self.left: list[
            Runnable
        ] = []  # requests that are for the model's own threads after all; the caller of `run` takes them
        self.running: Sequence[Runnable] = ()  # for threads that watch
        self.uses: Sequence[int] = ()  # of the slots, when the requests began to run
        self.line = line or RunRecord().new_line()
        self.waits = ProcessorWait()
        self.number = next(_numbers)  # names its counters
        self._inline = inline  # on the intake thread
        self._concurrent_runs = concurrent_runs or ConcurrentRuns()
        self._concurrent_runs.join(self)
        self._gatherer = Gatherer()
        self._tracer = tracer
        self._flushes: bool | None = None  # whether this thread flushes denormals; None before its first run

    def give_up(self, error: BrokerError) -> bool:
        """Answer the request whose run does not end. False if several requests run together, because one of them is
        guilty, or if the run has just ended. Called on another thread."""
        line = self.line
        with line.lock:
            line.given_up = started = line.words[STARTED_NS]
            all_of_it = list(zip(self.running, self.uses))
            ours = [item for item in all_of_it if item[0].words[SLOT_STARTED_NS] == started]
            if len(all_of_it) == 1:
                ours = all_of_it
            # The runner first stores that the run has ended and then reads `given_up`; this method does the reverse.
            if not started or len(ours) != 1 or line.words[STARTED_NS] != started:
                line.given_up = 0
                return False
            request, use = ours[0]
            request.fail(use, error)
            line.answered = True
            return True

    def mark_beside(self) -> None:
        """Mark the running requests as running beside others. A late mark names a use that is over. Called on another
        thread."""
        for request, use in zip(self.running, self.uses):
            request.words[BESIDE] = use

    def run(self, batch: Sequence[Runnable]) -> None:
        """Run requests of one group, and complete each of them whatever happens, except those in `left`. Raises
        nothing."""
        uses = (batch[0].use,) if len(batch) == 1 else tuple([request.use for request in batch])
        self.running = batch
        self.uses = uses
        try:
            if len(batch) == 1:
                self._run_one(batch[0], uses[0])
            else:
                self._run_several(batch, uses)
        except Exception as error:  # a fault of the broker, or of a worker that meddles with its semaphores
            _log.exception("a batch of %d requests failed outside the model", len(batch))
            for request, use in zip(batch, uses):
                _give_up(request, use, error)
        self.running = ()

    def _run_one(self, request: Runnable, use: int) -> None:
        """Run one request, fed directly from the worker's memory unless it must be padded."""
        started = monotonic_ns()
        if request.unwanted(started):
            self._finish(request.fail(use, _dropped(request)))
            return
        prepared = request.prepared
        served = prepared.served
        if served.allowed and prepared.group is not None and served.size_of(prepared.rows) != prepared.rows:
            self._run_joined([request], [use])
            return
        self._run_direct(request, use, started)

    def _run_direct(self, request: Runnable, use: int, started: int) -> None:
        prepared = request.prepared
        served = prepared.served
        stamps = request.stamps
        whose = self._tracer.whose((request,)) if self._tracer.on else None
        line = self.line
        if line.of is not served:
            self._turn_to(served)
        words = line.words
        request.words[SLOT_STARTED_NS] = words[STARTED_NS] = started
        if self._concurrent_runs.several and self._concurrent_runs.meets(self):
            request.words[BESIDE] = request.use
        try:
            outputs = served.run(*prepared.feeds)
        except Exception as error:
            words[STARTED_NS] = 0
            if not (line.given_up and line.was_answered()):
                self._finish(request.fail(use, _as_broker_error(error, served)))
            self._failed(served, started)
            return
        words[STARTED_NS] = 0
        if line.given_up and line.was_answered():
            self._failed(served, started)
            return
        finished = monotonic_ns()
        again = request.complete(use, outputs, started, finished, prepared.rows)
        # From here on the slot belongs to its worker: counting no longer delays the request.
        if served.divisible and prepared.group is not None and not _all_have(prepared.rows, outputs):
            served.keep_apart(
                f"{counted(prepared.rows, 'row')} had an answer of {other_rows(prepared.rows, outputs)}"
            )
        ended = monotonic_ns()
        served.ran(prepared.rows, finished - started, ended - started, ended, self.waits)
        counters = served.all_counters.get(self.number) or served.new_counters(self.number)
        counters.ran_one(stamps, started, finished, prepared.rows)
        counters.input_bytes += prepared.nbytes
        for output in outputs:
            counters.output_bytes += output.nbytes
        if whose is not None:
            self._tracer.ran(served, (started, started, finished, monotonic_ns()), prepared.rows, 0, whose)
        if again is not None:
            self._finish(again)

    def _run_several(self, batch: Sequence[Runnable], uses: Sequence[int]) -> None:
        now = monotonic_ns()
        unwanted = [request.unwanted(now) for request in batch]
        if any(unwanted):
            for request, use, dropped in zip(batch, uses, unwanted):
                if dropped:
                    self._finish(request.fail(use, _dropped(request)))
            batch = [request for request, dropped in zip(batch, unwanted) if not dropped]
            uses = [use for use, dropped in zip(uses, unwanted) if not dropped]
        if len(batch) > 1 and batch[0].prepared.served.divisible:
            self._run_joined(batch, uses)
        elif batch:
            self._run_each(batch, uses, self._run_one)

    def _run_each(
        self, batch: Sequence[Runnable], uses: Sequence[int], run: Callable[[Runnable, int], None]
    ) -> None:
        """Run the requests one by one; each of these runs may make the signature heavy."""
        served = batch[0].prepared.served
        for number, (request, use) in enumerate(zip(batch, uses)):
            if self._inline and not served.light:
                self.left.extend(batch[number:])
                return
            run(request, use)

    def _run_joined(self, batch: Sequence[Runnable], uses: Sequence[int]) -> None:
        prepared_requests = [request.prepared for request in batch]
        served = prepared_requests[0].served
        rows = sum([prepared.rows for prepared in prepared_requests])
        size = served.size_of(rows)
        if len(batch) > 1 and not padding_pays(prepared_requests, size):
            self._run_each(batch, uses, self._run_one)
            return
        begun = started = monotonic_ns()
        feeds: list[np.ndarray] = []
        line = self.line
        try:
            feeds = self._gatherer.join(prepared_requests, size)
            started = self._begin(batch, served)
            outputs = served.run(*feeds)
        except Exception:
            outputs = ()
        line.words[STARTED_NS] = 0
        if line.given_up and line.was_answered():  # only possible for one padded request
            self._failed(served, begun)
            return
        finished = monotonic_ns()
        if not outputs or not _stand(batch, size, feeds, outputs, finished - started):
            self._failed(served, begun)
            # One request is guilty, or the model's rows depend on each other: run each request by itself.
            self._run_each(batch, uses, self._run_again)
            return
        stamps = [request.stamps for request in batch]
        whose = self._tracer.whose(batch) if self._tracer.on else None
        for request, use, mine in zip(batch, uses, cut(prepared_requests, feeds, outputs)):
            self._finish(request.complete(use, mine, started, finished, rows))
        # From here on the slots belong to their workers: counting no longer delays the requests.
        ended = monotonic_ns()
        served.ran(size, finished - started, ended - begun, ended, self.waits)
        counters = served.all_counters.get(self.number) or served.new_counters(self.number)
        counters.ran_joined(begun, started, finished, ended, rows, size - rows)
        counters.answered(stamps, started)
        _count_bytes(counters, feeds, outputs, rows, size)
        if whose is not None:
            self._tracer.ran(served, (begun, started, finished, ended), rows, size - rows, whose)

    def _run_again(self, request: Runnable, use: int) -> None:
        self._run_direct(request, use, monotonic_ns())

    def _failed(self, served: ServedSignature, started_ns: int) -> None:
        """Count a failed run, which also held this thread."""
        now = monotonic_ns()
        served.failed(now - started_ns, now, self.waits)

    def _turn_to(self, served: ServedSignature) -> None:
        """Set the thread's float mode and run record for this signature, because one thread runs models of both
        modes."""
        if self._flushes is not served.flushes:
            flush_denormals(served.flushes)
            self._flushes = served.flushes
        self.line.describe(served, served.model, served.limit_ns)

    def _begin(self, batch: Sequence[Runnable], served: ServedSignature) -> int:
        """Write into the run record, which outlives this process, that these requests run now. Returns the time."""
        line = self.line
        if line.of is not served:
            self._turn_to(served)
        line.words[STARTED_NS] = started = monotonic_ns()
        mark = started | JOINED if len(batch) > 1 else started
        for request in batch:
            request.words[SLOT_STARTED_NS] = mark
        if self._concurrent_runs.several and self._concurrent_runs.meets(self):
            self.mark_beside()
        return started

    def _finish(self, again: Slot | None) -> None:
        """Run a request in one piece after all, because its model turned out not to run in parts."""
        if again is not None:
            self._run_direct(again, again.use, monotonic_ns())


def _count_bytes(
    counters: ThreadCounters, feeds: Sequence[np.ndarray], outputs: Sequence[np.ndarray], rows: int, size: int
) -> None:
    """Count the bytes of a batch of `rows` rows, padded to `size`."""
    for feed in feeds:
        counters.joined_bytes += feed.nbytes
        counters.input_bytes += _share(feed.nbytes, rows, size)
    for output in outputs:
        counters.output_bytes += _share(output.nbytes, rows, size)


def _share(nbytes: int, rows: int, size: int) -> int:
    """The bytes that `rows` of the batch's `size` rows take. A batch may have no rows."""
    return nbytes * rows // size if size else 0


def _all_have(rows: int, outputs: Sequence[np.ndarray]) -> bool:
    for output in outputs:  # noqa: SIM110 - all() with a generator takes three times as long
        if output.shape[:1] != (rows,):
            return False
    return True


def _stand(
    batch: Sequence[Runnable],
    size: int,
    feeds: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    run_ns: int,
) -> bool:
    """Whether each request may get its rows of these outputs: a sample of runs is compared with single requests."""
    prepared_requests = [request.prepared for request in batch]
    served = prepared_requests[0].served
    if not _all_have(size, outputs):
        served.keep_apart(f"{size} rows had an answer of {other_rows(size, outputs)}")
        return False
    evidence = served.evidence
    if evidence is None or len(batch) == 1:
        return True
    now = monotonic_ns()
    if not evidence.due(run_ns, now, min([request.deadline_ns for request in batch])):
        return True
    reason = evidence.difference(
        served.entry, prepared_requests, list(cut(prepared_requests, feeds, outputs))
    )
    evidence.spent_ns += monotonic_ns() - now
    if reason:
        served.keep_apart(reason)
    return not reason


def _give_up(request: Runnable, use: int, error: Exception) -> None:
    """Answer a request whose batch failed, unless it was answered before: then its slot may hold another request."""
    if request.use == use:
        try:
            request.fail(
                use, BrokerError(f"the broker failed on this request: {type(error).__name__}: {error}")
            )
        except Exception:
            request.channel.closed = True


def _dropped(request: Runnable) -> BrokerError:
    if request.channel.closed:  # the worker reads this only if it is still there
        return ConnectionClosed("dropped before it ran: the connection to the broker was closed")
    served = request.prepared.served
    if request.held:
        limits = served.limits
        return Overloaded(
            f"the queue of model {limits.model!r} was full until the call's deadline; send less at a time, "
            f"or raise max_queue_rows ({limits.max_rows}) or max_queue_bytes ({limits.max_bytes})"
        )
    return DeadlineExceeded(
        f"model {served.model!r} version {served.entry.version}: the call's timeout had passed before it could begin"
    )


def _as_broker_error(error: Exception, served: ServedSignature) -> BrokerError:
    if served.interrupted:  # ended because of another run: the next version runs this request
        return StaleSignature(f"model {served.model!r} was ended during the run, and is being loaded again")
    return error if isinstance(error, BrokerError) else ModelFailed(f"{type(error).__name__}: {error}")
