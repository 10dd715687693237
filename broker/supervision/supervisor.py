"""Keeps a broker running: starts its process again whenever it ends (`restart_policy.py` decides when), and ends it
when it makes no progress (`observe/liveness.py`). `suspicion.py` decides which model ended it.

It never blocks: its owner calls `poll` after SIGCHLD, and when `seconds_to_next_poll` have passed.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable
from dataclasses import replace

from broker.config.settings import Settings, Tune
from broker.control_plane.address_lock import AddressLock
from broker.counters.run_record import RunUnderWay
from broker.host import memory_left as memory_limit
from broker.models.lifecycle.start import Start, limit_again
from broker.observe import liveness
from broker.process.broker_process import BrokerProcess
from broker.supervision.restart_policy import RestartPolicy
from broker.supervision.suspicion import DEATHS, WITHIN_SECONDS, Suspicion
from worker_client.system.clock import monotonic, monotonic_ns
from worker_client.wire.address import socket_path
from worker_client.wire.errors import BrokerError, InvalidInput

_log = logging.getLogger("onesession.keeper")

_WHILE_LOADING_SECONDS = 0.02
_OVERSLEPT_SECONDS = 5.0


class Supervisor:
    """Holds the address from the start to `release`, and one broker process at a time. Used on the main thread only.

    If the first broker process fails to start, it is not restarted: the cause is most likely a mistake in its settings.
    If a later start does not end, the next process starts without the model that was being loaded, unless that is the
    last one."""

    def __init__(self, settings: Settings) -> None:
        """Take the address. Raises BrokerError."""
        self.settings = settings
        self.ready = False  # the broker process answers workers
        self._address_lock = AddressLock(socket_path(settings.address))
        self._restarts = RestartPolicy()
        self._suspicion = Suspicion()
        self._why_killed = ""  # why we killed the broker process
        self._checked = self._judge_from = 0.0
        self._start = Start(0.0, 0.0)
        self._longest_start_s = 0.0
        self._memory_kills = 0  # in our control group, before the broker process started
        self._started = False  # a broker process has been ready before
        self._next_start: float | None = monotonic()  # None while a broker process exists
        self._process = BrokerProcess(settings, address_lock=self._address_lock)

    def poll(self) -> None:
        """Check the broker process; start it if it is time.

        Raises BrokerError if another start would be useless. A further call starts over nevertheless.
        """
        if self._next_start is None:
            self._see_to_progress()
            self._poll_process()
        if self._next_start is not None and monotonic() >= self._next_start:
            self._next_start = None
            self._memory_kills = memory_limit.kills()
            self._start = Start(monotonic(), self._start_limit_s())
            try:
                self._process.launch()
            except BrokerError as error:
                self._restart(str(error), None)

    @property
    def seconds_to_next_poll(self) -> float:
        """Seconds until `poll` must be called even if no child has ended."""
        if self._next_start is not None:
            return max(0.0, self._next_start - monotonic())
        if not self.ready:
            return _WHILE_LOADING_SECONDS
        return liveness.seconds_to_next_poll(self._process.record, monotonic_ns())

    def stuck(self, seconds: float) -> list[str]:
        """What in the broker process has made no progress for `seconds`; empty while it is being started."""
        return liveness.stuck(self._process.record, monotonic_ns(), seconds) if self.ready else []

    @property
    def pid(self) -> int | None:
        """The pid of the broker process; None while there is none."""
        return self._process.pid

    def take_exit_status(self) -> None:
        """Take the broker process's exit status, before other code waits for all children of this process."""
        self._process.has_ended()

    def begin_stop(self) -> None:
        """Have the broker process drain and stop."""
        self._process.begin_stop()

    @property
    def ended(self) -> bool:
        """Whether there is no broker process, or it has ended."""
        return self._process.pid is None or self._process.has_ended()

    @property
    def stop_seconds(self) -> float:
        """The time that an orderly stop of the broker process may take."""
        return self._process.stop_seconds

    def kill(self) -> None:
        self._process.kill()

    def release(self) -> None:
        """Stop the broker process if it still runs, and release the address."""
        self._process.stop()
        self._address_lock.release()

    def _start_limit_s(self) -> float:
        limit = self.settings.start_seconds
        return limit_again(limit, self._longest_start_s) if self._started else limit

    def _see_to_progress(self) -> None:
        now, before = monotonic(), self._checked
        self._checked = now
        if before and now - before > _OVERSLEPT_SECONDS:
            # This process stood still, and so did the broker process: give it the same time again.
            self._judge_from = now + (now - before)
            self._start.forgive(now - before)
        if self._why_killed or now < self._judge_from:
            return
        record = self._process.record
        if self.ready:
            self._why_killed = liveness.why_replace(record, monotonic_ns())
        else:
            loading = record.loading(monotonic_ns())
            if news := self._start.news(now, *loading):
                _log.log(self._start.level(*loading), "%s", news)
            self._why_killed = self._start.why_end(now, *loading)
        if self._why_killed:
            _log.critical("the broker's process (pid %d) is ended: %s", self._process.pid, self._why_killed)
            self._process.kill()

    def _poll_process(self) -> None:
        broker_process = self._process
        ended = broker_process.has_ended()
        report = broker_process.report()
        ready_ns = report.get("ready_ns")
        if ready_ns is not None and not self.ready:
            if self._started:
                _log.warning("the broker is back, as pid %d", report["pid"])
            self.ready = self._started = True
            self._longest_start_s = max(self._longest_start_s, monotonic() - self._start.began_s)
        if not ended:
            return
        self._address_lock.note(None, loading=True)
        if ready_ns is None:
            self._restart(self._why_killed or broker_process.failure(), None)
        else:
            self._restart(self._describe_end(), (monotonic_ns() - ready_ns) / 1e9)

    def _describe_end(self) -> str:
        """How a broker process that served has ended, and what it ran. Also notes which models are suspects."""
        broker_process = self._process
        text = f"the broker's process (pid {broker_process.pid}) {broker_process.describe_end()}"
        if self._why_killed:
            text += " by its parent, as it made no progress"
        elif self._lacked_memory():
            text += " for want of memory (oom_kill in memory.events has risen)"
        runs = broker_process.record.under_way(monotonic_ns())
        if runs:
            text += f" while it ran {_named(runs)}"
        elif loading := broker_process.record.loading(monotonic_ns())[0]:
            text += f" while it loaded model {loading!r}"
        return text

    def _lacked_memory(self) -> bool:
        return self._process.status == -signal.SIGKILL and memory_limit.kills() > self._memory_kills

    def _killed_by_others(self) -> bool:
        """Whether another program killed it: a model causes SIGKILL only by using too much memory, or time."""
        return self._process.status == -signal.SIGKILL and not self._why_killed and not self._lacked_memory()

    def _note_suspects(self) -> None:
        """Note for the next broker process which models ran, or were being loaded, when this one ended, and which it
        must not serve."""
        record, now = self._process.record, monotonic()
        set_aside = {
            model: cause for model, cause in self.settings.set_aside.items() if not record.knows(model)
        }
        runs = record.under_way(monotonic_ns())
        loading = "" if runs or "error" in self._process.report() else record.loading(monotonic_ns())[0]
        if loading and self._why_killed and not self.ready:
            # The last model is tried again: without it the broker would serve nothing, and what it waits for may come.
            if {spec.name for spec in self.settings.models} - {*set_aside, loading}:
                cause = f"its load did not end when the broker was started again: {self._why_killed}"
                self._set_aside(loading, set_aside, cause)
        elif (runs or loading) and not self._killed_by_others():
            ended = {run.model for run in _overdue(runs) or runs} or {loading}
            guilty = self._suspicion.died(now, ended)
            if guilty is not None:
                times = f"{DEATHS} times within {WITHIN_SECONDS:.0f} s"
                did = "loaded" if loading else "ran"
                self._set_aside(
                    guilty,
                    set_aside,
                    f"the broker's process ended {times} while it {did} this model",
                )
        self.settings = replace(self.settings, suspects=self._suspicion.suspects(now), set_aside=set_aside)

    def _set_aside(self, model: str, set_aside: dict[str, str], cause: str) -> None:
        set_aside[model] = f"{cause}; `onesession reload {model}` brings it back"
        _log.critical("model %r is set aside: %s", model, set_aside[model])
        self._restarts.begin_again()

    def _restart(self, what: str, served_s: float | None) -> None:
        """Plan the next start, after an end that `what` describes."""
        can_pass = self._process.can_pass
        if not self._started:
            self._address_lock.note_failure(what)
            raise BrokerError(what) if can_pass else InvalidInput(what)
        self._note_suspects()
        self._process.stop()
        if (before := self._address_lock.restore()) is not None:
            before.close()
        self.settings = _restarted(self.settings)
        self._process = BrokerProcess(self.settings, address_lock=self._address_lock)
        self.ready = False
        self._why_killed = ""
        pause = self._restarts.pause_s(served_s, can_pass)
        self._next_start = monotonic() + (pause or 0.0)
        if pause is None:
            self._restarts = RestartPolicy()
            raise InvalidInput(f"the broker cannot be started again: {what}")
        _log.error("%s; starting it again%s", what, f" in {pause:g} s" if pause else "")


def _overdue(runs: Iterable[RunUnderWay]) -> list[RunUnderWay]:
    return [run for run in runs if run.overdue_s > 0]


def _named(runs: list[RunUnderWay]) -> str:
    """The names of the models that ran; only those past their limit, if there are any."""
    names = sorted({run.model for run in _overdue(runs) or runs})
    return f"model{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"


def _restarted(settings: Settings) -> Settings:
    """The settings for a restart: nothing is measured now, because workers wait."""
    tune = settings.tune if settings.tune == Tune.OFF.value else Tune.REMEMBERED.value
    return replace(settings, tune=tune, restarts=settings.restarts + 1)
