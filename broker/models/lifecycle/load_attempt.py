"""One load of a version while the broker serves, in its own thread: if it does not end, it can only be abandoned.

waited for --> the log names it every ten seconds --> its end
                                                 `--> past the limit, or the broker stops: abandoned
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from broker.models.errors import ModelLoadError
from broker.models.lifecycle.start import TELL_SECONDS
from broker.models.lifecycle.version import Version
from broker.own_process.interpreter import low_switch_interval
from worker_client.interpreter import threads
from worker_client.ipc import own_broker
from worker_client.system.clock import monotonic

_log = logging.getLogger("onesession.models")

_CHECK_SECONDS = 0.1
_OVERSLEPT_SECONDS = 5.0
_GENTLY_SECONDS = 60.0
"""How long garbage collections are suspended during a load; after that, other code may need them."""


class LoadAttempt:
    """One load. `load` fills in the version's model. `close` releases a model that an abandoned load produced after
    all."""

    def __init__(self, version: Version, load: Callable[[], None], close: Callable[[Version], None]) -> None:
        self._version = version
        self._load = load
        self._close = close
        self._error: Exception | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._began_s = monotonic()
        self._thread = threading.Thread(target=self._run, name="onesession-load", daemon=True)

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def run(self, limit_s: float, stopping: Callable[[], bool]) -> None:
        """Return when the version is loaded. Raises the load's exception, and ModelLoadError if the load is abandoned:
        after `limit_s`, 0 for no limit, or because the broker is `stopping`."""
        threads.start(self._thread)
        with contextlib.ExitStack() as gentle:
            gentle.enter_context(low_switch_interval())
            tell_s = TELL_SECONDS
            checked_s = self._began_s
            while not self._over.wait(_CHECK_SECONDS):
                now_s, before_s = monotonic(), checked_s
                checked_s = now_s
                if now_s - before_s > _OVERSLEPT_SECONDS:  # the machine, or this process, stood still
                    self._began_s += now_s - before_s
                seconds = now_s - self._began_s
                if stopping() or (limit_s and seconds > limit_s):
                    if self._abandon():
                        raise self._without_end(limit_s, stopping())
                    break
                if seconds > tell_s:
                    tell_s = seconds + TELL_SECONDS
                    _log.warning("%s", self._news(seconds, limit_s))
                if seconds > _GENTLY_SECONDS:
                    gentle.close()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        own_broker.enter("loads and warms it")
        try:
            self._load()
        except Exception as error:
            self._error = error
        except BaseException as error:  # sys.exit() in a model's code
            self._error = RuntimeError(f"{type(error).__name__}: {error}")
        finally:
            own_broker.leave()
        with self._lock:
            self._over.set()
            abandoned = self._version.abandoned
        if abandoned:
            self._close(self._version)
            _log.warning(
                "%s: its load ended after it was abandoned; the loaded model is released", self._name()
            )

    def _abandon(self) -> bool:
        """Abandon the load; False if it has just ended."""
        with self._lock:
            self._version.abandoned = not self._over.is_set()
            return self._version.abandoned

    def _name(self) -> str:
        return f"model {self._version.spec.name!r}, version {self._version.number}"

    def _news(self, seconds: float, limit_s: float) -> str:
        until = f"; it is abandoned after {limit_s:g} s (start_seconds)" if limit_s else ""
        return f"{self._name()} has been loading for {seconds:.0f} s{until}"

    def _without_end(self, limit_s: float, stopping: bool) -> ModelLoadError:
        spec = self._version.spec
        if stopping:
            return ModelLoadError.of(
                spec.name, spec.source, "the broker was stopped during the load", "Start it again"
            )
        return ModelLoadError.of(
            spec.name,
            spec.source,
            f"its load did not end within {limit_s:g} s (start_seconds) and was abandoned; its thread "
            "continues",
            "See what it waits for (py-spy dump), or raise start_seconds; only a restart of the broker "
            "ends the thread",
        )
