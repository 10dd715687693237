"""Keeps a broker running: starts its process again whenever it ends, as `restarts.py` says when.

Blocks nobody: its owner calls `look` after SIGCHLD, and when `seconds_to_next_look` have passed.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from time import monotonic, monotonic_ns

from broker.instance import Instance
from broker.process import EngineProcess
from broker.restarts import Restarts
from broker.settings import Settings, Tune
from worker_client.wire.address import socket_path
from worker_client.wire.errors import BrokerError

_log = logging.getLogger("onesession.keeper")

_WHILE_LOADING_SECONDS = 0.02


class Keeper:
    """Holds the address from the start to `release`, and one engine at a time. Main thread only.

    The first engine gets no second chance: what keeps it from starting is most likely a mistake in its settings.
    """

    def __init__(self, settings: Settings) -> None:
        """Takes the address. Raises BrokerError."""
        self.settings = settings
        self.ready = False  # the engine answers workers
        self._instance = Instance(socket_path(settings.address))
        self._restarts = Restarts()
        self._started = False  # an engine has once been ready
        self._next_start: float | None = monotonic()  # None while an engine is there
        self._engine = EngineProcess(settings, instance=self._instance)

    def look(self) -> None:
        """See what has become of the engine; start it if it is time.

        Raises BrokerError when there is no use in starting it once more. Who calls again all the same begins anew.
        """
        if self._next_start is None:
            self._look_at_engine()
        if self._next_start is not None and monotonic() >= self._next_start:
            self._next_start = None
            try:
                self._engine.launch()
            except BrokerError as error:
                self._restart(str(error), None)

    @property
    def seconds_to_next_look(self) -> float | None:
        """None if only the engine's end is waited for."""
        if self._next_start is not None:
            return max(0.0, self._next_start - monotonic())
        return None if self.ready else _WHILE_LOADING_SECONDS

    @property
    def pid(self) -> int | None:
        """The engine's; None while there is none."""
        return self._engine.pid

    def take_exit_status(self) -> None:
        """Before somebody else waits for all children of this process."""
        self._engine.has_ended()

    def begin_stop(self) -> None:
        """Have the engine drain and stop."""
        self._engine.begin_stop()

    @property
    def ended(self) -> bool:
        """There is no engine, or no more."""
        return self._engine.pid is None or self._engine.has_ended()

    def kill(self) -> None:
        self._engine.kill()

    def release(self) -> None:
        """Stop the engine if it still runs, and give the address up."""
        self._engine.stop()
        self._instance.release()

    def _look_at_engine(self) -> None:
        engine = self._engine
        ended = engine.has_ended()
        report = engine.report()
        ready_ns = report.get("ready_ns")
        if ready_ns is not None and not self.ready:
            if self._started:
                _log.warning("the broker is back, as pid %d", report["pid"])
            self.ready = self._started = True
        if not ended:
            return
        self._instance.note(None, loading=True)
        if ready_ns is None:
            self._restart(engine.failure(), None)
        else:
            how = f"the broker's process (pid {engine.pid}) {engine.describe_end()}"
            self._restart(how, (monotonic_ns() - ready_ns) / 1e9)

    def _restart(self, what: str, served_s: float | None) -> None:
        """Plan the next start, after an end that `what` describes."""
        if not self._started:
            raise BrokerError(what)
        self._engine.stop()
        if (before := self._instance.restore()) is not None:
            before.close()
        self.settings = _restarted(self.settings)
        self._engine = EngineProcess(self.settings, instance=self._instance)
        self.ready = False
        pause = self._restarts.pause_s(served_s)
        self._next_start = monotonic() + (pause or 0.0)
        if pause is None:
            failed, self._restarts = self._restarts.failed_starts, Restarts()
            raise BrokerError(
                f"the broker could not be started again, {failed} times in a row; at last: {what}"
            )
        _log.error("%s; starting it again%s", what, f" in {pause:g} s" if pause else "")


def _restarted(settings: Settings) -> Settings:
    """Workers wait: what was not measured before is not measured now."""
    tune = settings.tune if settings.tune == Tune.OFF.value else Tune.REMEMBERED.value
    return replace(settings, tune=tune, restarts=settings.restarts + 1)
