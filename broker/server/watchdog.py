"""The thread that ends runs that exceed their limit, and shows the broker's parent that the process is alive.

     every second:   beat; check what each runner runs; every few seconds ask intake and control thread for an answer
     long, for its model                  -> logged once; shown by stats, top and doctor
    past the model's max_run_seconds     -> its calls get ModelFailed, and the run is ended:
        a graph                          -> its session is closed, which cancels the run, and the model loaded again
         else, with other threads left    -> the model continues without the thread
         else                             -> the process is ended; its parent starts the next

Calls that were joined with others get no error, because only one of them is guilty. They run again one by one
(`scheduling/probation.py`), so that the guilty call then exceeds the limit alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from broker.counters.run_record import STARTED_NS, RunRecord
from broker.data_plane.runner import Runner
from broker.data_plane.runner_pool import RunnerPool
from broker.data_plane.served_signature import ServedSignature
from broker.observe.liveness import BEAT_SECONDS
from broker.observe.long_runs import LongRun, is_long
from worker_client.interpreter import threads
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import ModelFailed

if TYPE_CHECKING:
    from broker.data_plane.intake import Intake
    from broker.models.model import LoadedModel

_log = logging.getLogger("onesession.watch")

_SHORTEST_CHECK_S = 0.05
_CHECKS_A_LIMIT = 8
_ROUND_NS = 5_000_000_000
"""Between two questions to a thread that answers. They wake an idle broker, and nobody acts on a silence of less than
half a minute."""
_OVERSLEPT_NS = 5_000_000_000
_CANCEL_NS = 1_000_000_000
"""The time that a graph's run has to end once it is cancelled: it checks between two operations."""

Call = Callable[[Callable[[], None]], None]


class Watchdog:
    """The watchdog of one broker. `on_hung` ends the process if that is the broker's own, and need not return. `reload`
    loads a model again that was ended. `threads`: each as a function that has it run an action between two rounds."""

    def __init__(
        self,
        intake: Intake,
        record: RunRecord,
        threads: Mapping[str, Call],
        reload: Callable[[LoadedModel, str], None],
        on_hung: Callable[[], None] | None,
    ) -> None:
        self._intake = intake
        self._record = record
        self._owing = {name: _Owing(call) for name, call in threads.items()}
        self._reload = reload
        self._on_hung = on_hung
        self._seen: dict[Runner, _Seen] = {}
        self._next_round_ns = 0
        self._checked_ns = monotonic_ns()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="onesession-watch", daemon=True)

    def start(self) -> None:
        self._record.beat(monotonic_ns())  # a run may take the interpreter's lock before our first check
        threads.start(self._thread)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(pause := self._pause_s()):
            try:
                now = monotonic_ns()
                self._forgive(now - self._checked_ns - int(pause * 1e9))
                self._checked_ns = now
                self._check_runs(now)
            except Exception:
                _log.exception("watching the runs failed")

    def _forgive(self, overslept_ns: int) -> None:
        """Extend all limits by the time in which the machine, or this process, stood still: no run could continue
        then."""
        if overslept_ns > _OVERSLEPT_NS:
            for seen in self._seen.values():
                seen.forgiven_ns += overslept_ns

    def _pause_s(self) -> float:
        """The time until the next check: shorter for short limits."""
        limits = [served.limit_ns for served in _distinct(self._intake.served_signatures) if served.limit_ns]
        shortest = min(limits, default=0) / 1e9
        return (
            min(BEAT_SECONDS, max(_SHORTEST_CHECK_S, shortest / _CHECKS_A_LIMIT)) if limits else BEAT_SECONDS
        )

    def _check_runs(self, now: int) -> None:
        self._record.beat(now)
        asks = now >= self._next_round_ns
        for (
            name,
            owing,
        ) in self._owing.items():  # each time: our parent must not act on what has been answered since
            self._record.no_answer(name, owing.since(now, asks))
        if asks:
            self._next_round_ns = now + _ROUND_NS
            self._intake.probation.update(now)
        runners = self._intake.runners()
        self._seen = {runner: seen for runner, seen in self._seen.items() if (runner, seen.pool) in runners}
        for runner, pool in runners:
            started, served = runner.line.words[STARTED_NS], runner.line.of
            if started and isinstance(served, ServedSignature):
                self._judge(runner, pool, served, started, now)

    def _judge(
        self, runner: Runner, pool: RunnerPool | None, served: ServedSignature, started: int, now: int
    ) -> None:
        seen = self._seen.get(runner)
        if seen is None or seen.started != started:
            seen = self._seen[runner] = _Seen(pool, started)
        ran = now - started - seen.forgiven_ns
        if not seen.logged and is_long(served, ran):
            seen.logged = True
            _log.warning("%s", LongRun.of(served, ran, pool is None))
        if served.limit_ns and ran > served.limit_ns:
            if not seen.overdue:
                seen.overdue = True
                self._overdue(runner, served, ran)
                seen.cancelled_ns = now if self._cancel(served) else 0
            if not seen.given_up and now - seen.cancelled_ns > _CANCEL_NS:
                seen.given_up = True
                self._give_up(runner, pool, served)

    def _overdue(self, runner: Runner, served: ServedSignature, ran: int) -> None:
        """Answer the run's request with an error if it is the only one, log the excess, and end the run."""
        alone = runner.give_up(
            ModelFailed(
                f"its run did not end within max_run_seconds ({served.limit_ns / 1e9:g} s) and was given "
                "up; raise "
                "max_run_seconds if it may take that long (0 sets no limit)"
            )
        )
        _log.error(
            "model %r, signature %r: a run of %s has not ended after %.1f s and exceeds max_run_seconds (%g)",
            served.model,
            served.entry.signature.name,
            "one request" if alone else "several requests, which are run again one by one,",
            ran / 1e9,
            served.limit_ns / 1e9,
        )
        if not alone:
            self._intake.probation.begin(served.model)

    def _cancel(self, served: ServedSignature) -> bool:
        """End the runs of a model, if that is possible, and have it loaded again."""
        model = served.entry.model
        mine = [each for each in _distinct(self._intake.served_signatures) if each.entry.model is model]
        for each in {served, *mine}:
            each.interrupted = True
        if model.interrupt():
            self._reload(model, "a run exceeded max_run_seconds and was ended; the model is loaded again")
            return True
        for each in {served, *mine}:
            each.interrupted = False
        return False

    def _give_up(self, runner: Runner, pool: RunnerPool | None, served: ServedSignature) -> None:
        in_probation = self._intake.probation.holds(
            served.model
        )  # its other models wait for the end of this run
        if pool is not None and pool.write_off(runner) and not in_probation:
            _log.error(
                "model %r continues without the thread of that run, which cannot be ended", served.model
            )
            runner.line.words[STARTED_NS] = 0  # otherwise our parent would end this process
            return
        if self._on_hung is None:
            _log.critical(
                "a run of model %r does not end, and only the end of this process would end it", served.model
            )
            return
        _log.critical("a run of model %r does not end, so the broker's process is being ended", served.model)
        self._on_hung()


class _Seen:
    """A run that was under way at a check."""

    __slots__ = ("cancelled_ns", "forgiven_ns", "given_up", "logged", "overdue", "pool", "started")

    def __init__(self, pool: RunnerPool | None, started: int) -> None:
        self.pool = pool
        self.started = started
        self.logged = self.overdue = self.given_up = False
        self.cancelled_ns = self.forgiven_ns = 0


class _Owing:
    """A thread that is asked for an answer regularly."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._asked_ns = 0

    def since(self, now_ns: int, asks: bool) -> int:
        """When it was asked for an answer that it has not given; 0 if it has answered, and then it may be asked
        again."""
        if self._asked_ns:
            return self._asked_ns
        if asks:
            self._asked_ns = now_ns
            self._call(self._answer)
        return 0

    def _answer(self) -> None:
        self._asked_ns = 0


def _distinct(served_signatures: Iterable[ServedSignature | None]) -> list[ServedSignature]:
    return [served for served in dict.fromkeys(list(served_signatures)) if served is not None]
