"""The thread that takes requests from every worker's ring, and runs the light models itself.

    rings --scan--> slots --one batch of a light model--------> Runner (here)
                      \\---route--> light: queue --next_batch--> Runner (here)
                               \\-> heavy: RunnerPool of the model (its own threads)

     nothing submitted: poll the rings for a while, then block on the doorbell

Only this thread reads rings and owns the list of channels; other threads use `call`. If the requests of one scan are
one batch of a light model, the thread runs them immediately, without a queue between slots and session.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from time import sleep
from typing import TypeVar

from broker.counters.concurrent_runs import ConcurrentRuns
from broker.counters.failures import Failures
from broker.counters.run_record import RunRecord
from broker.data_plane.channel import Channel, Violation, WorkerLeft
from broker.data_plane.polling import Polling
from broker.data_plane.runner import Runner
from broker.data_plane.runner_pool import RunnerPool
from broker.data_plane.served_signature import ServedSignature, served_signatures_of
from broker.data_plane.slot import Slot
from broker.data_plane.split import Runnable, split
from broker.data_plane.tracer import Tracer
from broker.models.lifecycle.entry import Entry
from broker.models.lifecycle.repository import Repository
from broker.models.model import LoadedModel
from broker.own_process.time_slice import SLICE_NS, ask_for
from broker.scheduling.probation import Probation
from broker.scheduling.queue import Queue
from worker_client.ipc import own_broker, semaphore
from worker_client.ipc.semaphore import Busy, Semaphore
from worker_client.ipc.waiting import PollBudget, WaitMode
from worker_client.system.clock import monotonic_ns
from worker_client.system.processor import give_way
from worker_client.wire.layout import POLL_GIVING_WAY, POLL_NOT, TAIL_WORD

_log = logging.getLogger("onesession.intake")

_ACTIVE_NS = 10_000_000  # a worker that submitted this recently counts as running
_RECOUNT_NS = 2_000_000
_HOLD_SLICE_NS = 50_000  # scan the rings this often while a light model's batch is held
_CHECKS = 8  # of all rings, between two readings of the clock
_CHECK_S = 0.1  # how often a thread that waits for the intake checks whether it is being stopped
_END_OF_RUNNERS_S = 0.5  # after their last run: an idle thread ends immediately

T = TypeVar("T")


class Intake:
    """The intake. `run` is the body of the intake thread; `call` and `stop` may be called from any thread."""

    def __init__(
        self,
        repository: Repository,
        doorbell: Semaphore,
        mode: WaitMode,
        on_violation: Callable[[Channel], None],
        failures: Failures | None = None,
        record: RunRecord | None = None,
        suspects: Iterable[str] = (),
    ) -> None:
        self.failures = failures or Failures()
        self.probation = Probation(suspects)
        self.served_signatures = served_signatures_of(repository.table())
        self._repository = repository
        self.channels: list[Channel] = []
        self._doorbell = doorbell
        self._on_violation = on_violation
        self.tracer = Tracer()
        self._record = record or RunRecord()
        self._concurrent_runs = ConcurrentRuns()
        self._runner = Runner(self.tracer, self._record.new_line(), True, self._concurrent_runs)
        self._waits = self._runner.waits
        self._queue: Queue[Runnable] = Queue(split)
        # A model's stateful signatures have a pool of their own.
        self._pools: dict[tuple[LoadedModel, bool], RunnerPool] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._retired: list[Channel] = []
        self._stopping = False
        self._budget = PollBudget(mode)
        self.polling = Polling(self._budget)
        self._counted_ns = self._idle_ns = 0  # when workers were counted, and the idle time since
        self._worker_polls = False  # the worker of the latest request polls
        self._may_poll = False  # a request has come since the last poll began: another may follow soon
        self._poll_until_ns = 0
        self._recount_ns = self._scanned_ns = 0
        self._slices = True  # whether the system lets this thread set its time slice, as far as known
        self._contended = False  # other threads of this process compute, or will
        self._usual_slice_ns = 0  # saved while this thread has a shorter one

    # -- any thread ----------------------------------------------------------------------------------------------

    def call(self, action: Callable[[], None]) -> None:
        """Have the intake thread run this action between two scans."""
        self._calls.append(action)
        self._doorbell.release()

    def stop(self) -> None:
        """Finish what has been submitted so far, then end `run`."""
        self.call(self._stop)

    def queues(self) -> dict[str, dict[str, int]]:
        """For each model, the waiting rows, their bytes, and the requests held because its queue is full."""
        limits_of = {served.model: served.limits for served in self.served_signatures if served is not None}
        found = {}
        for model, limits in limits_of.items():
            pools = [pool for pool in list(self._pools.values()) if pool.model == model]
            all_of_it = zip(self._queue.waiting(limits), *[pool.waiting(limits) for pool in pools])
            found[model] = dict(zip(("rows", "bytes", "held"), map(sum, all_of_it)))
        return found

    def serve(self, entry: Entry) -> None:
        """Serve an entry that was added to the repository, unless it is served already."""
        with self._repository.lock:
            served_signatures = self.served_signatures
            while len(served_signatures) <= entry.id:
                served_signatures.append(None)
            if served_signatures[entry.id] is None and self._repository.table()[entry.id] is entry:
                served_signatures[entry.id] = served_signatures_of([entry], served_signatures)[0]

    def follow(self) -> None:
        """As `switch`, but without waiting: for entries whose numbers no worker knows yet."""
        self.call(self._switch)

    def switch(self) -> None:
        """Serve the repository's current table. After the return, no request starts on an entry that is not in it."""
        self._have_done(self._switch)

    def switch_soon(self) -> None:
        """As `switch`, but returns without waiting for the intake thread."""
        self.call(self._switch)

    def expect_contention(self) -> None:
        """Other threads of this process are about to compute. From now on the intake thread has short time slices, so
        that it soon gets a processor when a request comes."""
        self.call(self._expect_contention)

    def release_model(self, model: LoadedModel) -> bool:
        """Whether nothing runs or waits any more for this model, which is no longer in the table; its runners then
        end."""
        pools: list[RunnerPool] = []
        idle = self._have_done(lambda: self._release_pools(model, pools))
        if not idle or not all(pool.join(_END_OF_RUNNERS_S) for pool in pools):
            return False
        self.call(lambda: self._forget_pools(model))
        return True

    def _have_done(self, action: Callable[[], T]) -> T | None:
        """The result of this action, run by the intake thread between two scans; None if the intake is being
        stopped."""
        results: list[T] = []
        done = threading.Event()

        def act() -> None:
            results.append(action())
            done.set()

        self.call(act)
        while not done.wait(_CHECK_S) and not self._stopping:
            pass
        return results[0] if results else None

    @property
    def runner_number(self) -> int:
        """The number under which each ServedSignature counts the runs of this thread."""
        return self._runner.number

    def running(self) -> int:
        """Requests, or parts of them, that are being run now."""
        return sum(len(runner.running) for runner, _ in self.runners())

    def runners(self) -> list[tuple[Runner, RunnerPool | None]]:
        """All runners, each with its pool; the intake's own runner has none."""
        pools = list(self._pools.values())
        return [(self._runner, None), *[(runner, pool) for pool in pools for runner in list(pool.runners)]]

    def add(self, channel: Channel) -> None:
        self.call(lambda: self._add(channel))

    def remove(self, channel: Channel) -> None:
        """Remove the channel of a worker that is gone, and dispose of it when none of its requests runs any more."""
        channel.closed = True
        self.call(lambda: self._remove(channel))

    # -- intake thread -------------------------------------------------------------------------------------------

    def run(self) -> None:
        own_broker.enter("runs it")
        while True:
            if self._calls:
                self._do_calls()
                if self._stopping:
                    break
            taken = self._scan()
            if taken and not self._queue and not self.probation.active and _is_one_batch(taken):
                self._runner.run(taken)
                if self._runner.left:
                    self._hand_over(self._runner.left[0].prepared.served)
            else:
                self._route(taken)
                if self._queue:
                    self._run_next()
                elif not taken:
                    self._idle()
                    continue
            self._may_poll = True
            self._answer_doorbell(len(taken))
            if self._scanned_ns > self._recount_ns:  # after the answers, so that it delays no request
                self._count_workers(self._scanned_ns)
            if self.polling.how == POLL_GIVING_WAY and self._worker_polls:
                self._give_way()
        self._finish()
        own_broker.leave()

    def _run_next(self) -> None:
        now = monotonic_ns()
        batch = self._queue.next_batch(now)
        if batch:
            delay, served = batch[0].delay, batch[0].prepared.served
            self._runner.run(batch)
            self._queue.answered(batch, delay, monotonic_ns())
            if not served.light:
                self._hand_over(served)
        else:  # all requests are held for more requests, which come through the rings
            left_ns = self._queue.hold_until(now) - now
            sleep(min(max(0, left_ns), _HOLD_SLICE_NS) / 1e9)

    def _scan(self) -> list[Slot]:
        """Take the submitted requests of every ring."""
        taken: list[Slot] = []
        now = 0
        for channel in self.channels:
            if channel.words[TAIL_WORD] != channel.ring.head:
                now = now or monotonic_ns()
                self._take_all(channel, now, taken)
        self._scanned_ns = now
        return taken

    def _take_all(self, channel: Channel, now: int, taken: list[Slot]) -> None:
        words, ring = channel.words, channel.ring
        try:
            while (
                words[TAIL_WORD] != ring.head
                and (slot := channel.take(self.served_signatures, now)) is not None
            ):
                taken.append(slot)
                self._worker_polls = slot.worker_polls
        except WorkerLeft as left:
            _log.info("%s", left)
            self._close(channel)
            channel.disconnect()
        except Exception as error:
            if not isinstance(error, Violation):
                _log.exception("the channel of pid %d cannot be read", channel.pid)
            _log.warning("%s; its channel is closed", error)
            self._close(channel)
            self._on_violation(channel)

    def _close(self, channel: Channel) -> None:
        channel.closed = True
        self._remove(channel)

    def _route(self, taken: list[Slot]) -> None:
        for slot in taken:
            served = slot.prepared.served
            if served.light and not (self.probation.active and self.probation.holds(served.model)):
                self._queue.add(slot)
            else:
                self._pool(served).put(slot)

    def _hand_over(self, served: ServedSignature) -> None:
        """Move the rest of the batch and the queued requests of a signature that has just become heavy to its own
        threads."""
        pool, left = self._pool(served), self._runner.left
        for request in [
            *left,
            *self._queue.remove(served.limits, lambda queued: queued.prepared.served is served),
        ]:
            pool.put(request)
        left.clear()

    def _pool(self, served: ServedSignature) -> RunnerPool:
        key = served.entry.model, served.stateful
        pool = self._pools.get(key)
        if pool is None:
            self._expect_contention()
            # One thread runs stateful requests: never two at a time, and each worker's in order.
            concurrency = 1 if served.stateful else served.entry.max_concurrency
            pool = self._pools[key] = RunnerPool(
                served.model,
                concurrency,
                self._dispose_later,
                self.tracer,
                self._record,
                self.probation,
                self._concurrent_runs,
            )
        return pool

    def _answer_doorbell(self, posts: int) -> None:
        """Consume the posts that came with the requests, off the critical path, so that the count stays small."""
        doorbell = self._doorbell
        try:
            for _ in range(posts):
                doorbell.acquire(0)
        except Busy:
            pass

    # -- with nothing to do --------------------------------------------------------------------------------------

    def _idle(self) -> None:
        """Poll the rings, then block. A worker rings the doorbell after its submission is visible in the ring, so a
        submission that the last scan missed is found by polling, or has rung the doorbell, or will ring it."""
        start = monotonic_ns()
        if start > self._waits.due_ns:
            self._waits.mark(start)
            self._budget.losses.interruptions.mark(start)
        if self._may_poll:
            self._may_poll = False
            self._poll_until_ns = start + self._poll_budget_ns()
        polled = self._poll()
        if not (polled or semaphore.drain(self._doorbell) or self._calls or self._anything_waits()):
            semaphore.acquire(self._doorbell)
        now = monotonic_ns()
        if polled:
            self._budget.lost(now - self._poll_until_ns, now)
        waited_ns = now - start
        self._idle_ns += waited_ns
        self._budget.observe(waited_ns)

    def _give_way(self) -> None:
        """Yield to processes that share this processor: they also yield, and would otherwise wait for a time slice."""
        start = monotonic_ns()
        give_way()
        now = monotonic_ns()
        self._budget.lost(now - start, now)

    def _poll_budget_ns(self) -> int:
        wanted = self._worker_polls and self.polling.how != POLL_NOT and not self._busy_runners()
        return self._budget.budget_ns(wanted)

    def _poll(self) -> bool:
        giving_way = self.polling.how == POLL_GIVING_WAY
        while monotonic_ns() < self._poll_until_ns:
            for _ in range(1 if giving_way else _CHECKS):
                if self._anything_waits():
                    return True
            if self._calls:
                return True
            if giving_way:
                give_way()
        return False

    def _anything_waits(self) -> bool:
        for channel in self.channels:
            if channel.words[TAIL_WORD] != channel.ring.head and channel.ring.promising:
                return True
        return False

    def _busy_runners(self) -> bool:
        return any(pool.running for pool in self._pools.values())

    def _count_workers(self, now: int) -> None:
        """Count active workers. Polling can pay off only while every active worker can have a core, or if it saves a
        busy broker the wake-ups; each worker measures whether it does."""
        self._recount_ns = now + _RECOUNT_NS
        callers = [channel.pid for channel in self.channels if channel.last_taken_ns > now - _ACTIVE_NS]
        busy = 2 * self._idle_ns < now - self._counted_ns
        self._counted_ns, self._idle_ns = now, 0
        self._shorten_slice(not busy or self._contended)
        if busy and now > self._waits.due_ns:
            self._waits.mark(now)
        if self.polling.judge(callers, [channel.pid for channel in self.channels], busy, now):
            for channel in self.channels:
                channel.allow_polling(self.polling.how)

    # -- calls ---------------------------------------------------------------------------------------------------

    def _expect_contention(self) -> None:
        self._contended = True
        self._shorten_slice(True)

    def _shorten_slice(self, short: bool) -> None:
        if not self._slices or short == bool(self._usual_slice_ns):
            return
        before = ask_for(SLICE_NS if short else self._usual_slice_ns)
        self._slices = before > 0
        self._usual_slice_ns = before if short else 0

    def _switch(self) -> None:
        with self._repository.lock:
            self.served_signatures = served_signatures_of(self._repository.table(), self.served_signatures)
        self._forget_requests()

    def _release_pools(self, model: LoadedModel, pools: list[RunnerPool]) -> bool:
        channels = [*self.channels, *self._retired]
        if any(slot.busy and slot.prepared.served.entry.model is model for c in channels for slot in c.slots):
            return False
        self._forget_requests()  # and prepared requests that idle slots keep from their last use
        for stateful in (False, True):
            pool = self._pools.get((model, stateful))
            if pool is not None:
                pool.stop()
                pools.append(pool)
        return True

    def _forget_pools(self, model: LoadedModel) -> None:
        for stateful in (False, True):
            self._pools.pop((model, stateful), None)

    def _forget_requests(self) -> None:
        for channel in [*self.channels, *self._retired]:
            for slot in channel.slots:
                slot.forget_requests(self.served_signatures)

    def _do_calls(self) -> None:
        while self._calls:
            self._calls.popleft()()
        self._dispose_idle()

    def _dispose_later(self) -> None:
        """Called by heavy runners when a run has ended whose worker is gone."""
        self.call(self._dispose_idle)

    def _dispose_idle(self) -> None:
        for channel in [channel for channel in self._retired if channel.idle]:
            self._retired.remove(channel)
            channel.dispose()

    def _add(self, channel: Channel) -> None:
        channel.allow_polling(self.polling.how)
        self.channels.append(channel)

    def _remove(self, channel: Channel) -> None:
        if channel in self.channels:
            self.channels.remove(channel)
            self._retired.append(channel)

    def _stop(self) -> None:
        self._stopping = True

    def _finish(self) -> None:
        self._route(self._scan())
        while self._queue:
            self._run_next()

    def join_runners(self, seconds: float) -> bool:
        """True if the heavy runners finish their work within `seconds`. Called after `run` has ended."""
        deadline = monotonic_ns() + int(seconds * 1e9)
        for pool in self._pools.values():
            pool.stop()
        return all(pool.join(max(0.0, (deadline - monotonic_ns()) / 1e9)) for pool in self._pools.values())

    def close(self) -> None:
        """Dispose of all channels, after all threads have ended."""
        for channel in self.channels + self._retired:
            channel.dispose()
        self.channels.clear()
        self._retired.clear()


def _is_one_batch(taken: list[Slot]) -> bool:
    """Whether these requests are one batch that can run next on this thread."""
    prepared = taken[0].prepared
    served = prepared.served
    if not served.light or served.delay is not None:
        return False
    if len(taken) == 1:
        return prepared.rows <= served.batch_limit or prepared.group is None or not served.divisible
    group = prepared.group
    if group is None or not served.divisible:
        return False
    rows = 0
    for slot in taken:
        if slot.prepared.group is not group:
            return False
        rows += slot.prepared.rows
    return rows <= served.batch_limit
