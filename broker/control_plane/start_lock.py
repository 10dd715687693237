"""The start lock of a node broker, as its process inherits it (`node_files.py`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import TypeVar

from broker.control_plane.address_lock import CHECK_SECONDS
from broker.control_plane.locks import AlreadyRunning
from worker_client.ipc.node_files import StartLock, listens
from worker_client.system.clock import monotonic
from worker_client.wire.errors import BrokerError

Served = TypeVar("Served")

_PATIENCE_SECONDS = 3 * CHECK_SECONDS
_PAUSE_SECONDS = 0.1


class InheritedLock:
    """An inherited start lock, held until the broker is ready or its process ends. Does nothing if none was
    inherited."""

    def __init__(self, fd: int | None) -> None:
        self._lock = None
        if fd is not None:
            os.set_inheritable(fd, False)
            self._lock = StartLock(fd)

    def serve(self, path: Path, serve: Callable[[], Served]) -> Served:
        """Call `serve()`. If a live broker has the address, the start ends as soon as that broker can be reached: it
        creates its socket again if it was removed, but its socket may be in another container and not visible here.

        Raises AlreadyRunning, BrokerError.
        """
        limit = monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return serve()
            except AlreadyRunning:
                if self._lock is None:
                    raise
                if listens(path):
                    self.release()
                    raise
                if monotonic() >= limit:
                    raise _out_of_reach(path) from None
            sleep(_PAUSE_SECONDS)

    def release(self) -> None:
        """Release the lock after a start that did not fail."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(OSError):
                lock.forget_start()
            lock.release()


def _out_of_reach(path: Path) -> BrokerError:
    return BrokerError(
        f"a live broker holds {path}, but its socket is not visible here: it runs in another container "
        "that shares "
        f"/dev/shm with this one, but not {path.parent}. Mount both in both containers, or give each its "
        "own job"
    )
