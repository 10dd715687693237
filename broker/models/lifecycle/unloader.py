"""Takes versions out of service, and closes each when nothing runs on it any more: now, or between later orders.

AVAILABLE --unload--> UNLOADING --nothing runs--> close: END
                          |  still runs after some seconds: `leaving`, checked again by `end_leaving`
                          +--put_back--> AVAILABLE, if the new version had no room beside it
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from broker.models.lifecycle.load_orders import LoadOutcome
from broker.models.lifecycle.repository import Repository
from broker.models.lifecycle.version import Version, VersionState
from broker.models.model import LoadedModel
from broker.own_process.interpreter import low_switch_interval
from worker_client.ipc.backoff import Backoff
from worker_client.system.clock import monotonic

_log = logging.getLogger("onesession.models")

_FIRST_CHECK_S, _LAST_CHECK_S = 0.002, 0.05


class TableSwitch(Protocol):
    """The part of the intake that the loader uses."""

    def switch(self) -> None: ...

    def switch_soon(self) -> None: ...

    def release_model(self, model: LoadedModel) -> bool: ...

    def expect_contention(self) -> None: ...


class Unloader:
    """Used by the loader's thread and its jobs. `announce` is called when a version's state has changed."""

    def __init__(
        self,
        repository: Repository,
        table_switch: TableSwitch,
        announce: Callable[[], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._repository = repository
        self._table_switch = table_switch
        self._announce = announce
        self._is_stopping = is_stopping
        self.leaving: list[Version] = []  # to be closed as soon as nothing runs on them
        self._lock = threading.Lock()  # of `leaving`

    def unload(self, versions: list[Version], outcome: LoadOutcome, seconds: float) -> bool:
        """Take versions out of service. Close those on which nothing runs any more within `seconds`, and the others
        later. True if all are closed."""
        if not versions:
            return True
        with self._repository.lock:
            for version in versions:
                version.enter(VersionState.UNLOADING)
            self._repository.follow()
        self._table_switch.switch()
        self._announce()
        deadline = monotonic() + seconds
        for version in versions:
            if self._await_end_of_requests(version, deadline):
                self._close_unloaded(version)
                outcome.unloaded.append(version.number)
            elif not self._is_stopping():  # otherwise the broker drains and closes everything
                outcome.draining.append(version.number)
                self.leaving.append(version)
                _log.warning(
                    "model %r: version %d still has requests; it is unloaded when they are finished",
                    version.spec.name,
                    version.number,
                )
        with low_switch_interval():
            gc.collect()  # a Graph is full of cycles
        return not outcome.draining

    def put_back(self, going: list[Version], coming: list[Version], outcome: LoadOutcome) -> None:
        """Put versions back into service that had to be unloaded first but still run: there is no room for the new
        one."""
        cause = "the version before it still has requests, and must be unloaded first"
        with self._lock, self._repository.lock:
            for version in coming:
                version.enter(VersionState.END, cause)
                version.failed = True
                outcome.failed[version.number] = f"version {version.number} was not loaded: {cause}"
            for version in [old for old in going if old in self.leaving]:
                self.leaving.remove(version)
                version.enter(VersionState.AVAILABLE)
            self._repository.follow()
        outcome.draining.clear()
        self._table_switch.switch()
        self._announce()

    def end_leaving(self) -> None:
        """Close the leaving versions on which nothing runs any more."""
        for version in list(self.leaving):
            with self._lock:
                ended = version in self.leaving and self.end(version)
                if ended:
                    self.leaving.remove(version)
            if ended:
                self._announce()

    def end(self, version: Version) -> bool:
        """Close a version that is out of service, if nothing runs on it any more."""
        if version.model is None or not self._table_switch.release_model(version.model):
            return False
        self._close_unloaded(version)
        return True

    def _close_unloaded(self, version: Version) -> None:
        with self._repository.lock:
            close(version)
            version.enter(VersionState.END, version.cause or "unloaded")
        _log.info("model %r: version %d is unloaded", version.spec.name, version.number)

    def _await_end_of_requests(self, version: Version, deadline: float) -> bool:
        assert version.model is not None
        pause = Backoff(_FIRST_CHECK_S, _LAST_CHECK_S)
        waited = threading.Event()
        while not self._table_switch.release_model(version.model):
            if self._is_stopping() or monotonic() >= deadline:
                return False
            waited.wait(pause.next_s())
        return not self._is_stopping()


def close(version: Version) -> None:
    model, version.model = version.model, None
    version.entries, version.ad_hoc = {}, {}
    if model is not None:
        with suppress(Exception):
            model.close()
