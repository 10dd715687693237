"""Ends a broker that nobody uses, in an order in which no worker can find it half ended.

    no worker for idle_seconds
       -> take the start lock, if it is a node broker: a process that would start the next one waits
       -> remove the socket's file: no worker connects any more
       -> has a worker connected in the meantime?  yes: new socket, accept waiting workers, release the lock, continue
      -> stop

Only attached processes count as workers. A process that has only connected, such as `onesession status`, does not keep
the broker alive, but the broker does not end while it is connected.
"""

from __future__ import annotations

import contextlib
import os
import select

from broker.control_plane.address_lock import AddressLock
from worker_client.ipc import node_files
from worker_client.ipc.node_files import StartLock
from worker_client.wire.errors import BrokerError

_STDERR = 2


class Idleness:
    """Measures how long there has been no worker. Reads no clock."""

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self._since: float | None = now

    def update(self, workers: int, now: float) -> bool:
        """Take the current number of workers; whether the idle time is over."""
        if workers:
            self._since = None
        elif self._since is None:
            self._since = now
        return self._since is not None and now - self._since >= self.seconds

    def worker_left(self, now: float) -> None:
        """Restart the idle time: the worker may have attached after the last `update`."""
        self._since = now

    def seconds_left(self, now: float) -> float | None:
        """None while there are workers."""
        return None if self._since is None else max(0.0, self.seconds - (now - self._since))


class Retirement:
    """The retirement of the broker at this address; for a node broker, also of its files."""

    def __init__(self, address_lock: AddressLock) -> None:
        self._address_lock = address_lock
        self._lock: StartLock | None = None

    def begin(self) -> bool:
        """Prevent new connections. False if a worker is about to connect: the broker must continue, and call
        `put_off`."""
        if not self._take_lock():
            return False
        self._address_lock.withdraw()
        return not _somebody_waits(self._address_lock)

    def put_off(self) -> None:
        """Release the start lock, only after the socket exists again: before, the next holder of the lock would start a
        second broker."""
        self._leave_lock()

    def finish(self) -> None:
        """Remove the node broker's files and allow the next start, after the address was released."""
        path = self._address_lock.path
        if not self._take_lock() or self._lock is None or path.exists():  # they belong to the next broker
            return self._leave_lock()
        log = node_files.of_log(path)
        for file in (
            node_files.of_config(path),
            *([log] if _is_our_output(log) else []),
            node_files.of_start(path),
        ):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
        return self._leave_lock()

    def _take_lock(self) -> bool:
        """Take the start lock; True also if there is none to take."""
        if self._lock is None and node_files.is_node(self._address_lock.path):
            try:
                self._lock = StartLock.take(self._address_lock.path)
            except BrokerError:  # no directory or no space: no process can start a broker either
                return True
            return self._lock is not None
        return True

    def _leave_lock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


def _somebody_waits(address_lock: AddressLock) -> bool:
    poll = select.poll()
    poll.register(address_lock.listener, select.POLLIN)
    return bool(poll.poll(0))


def _is_our_output(log: os.PathLike[str]) -> bool:
    try:
        return os.path.samestat(os.stat(log), os.fstat(_STDERR))
    except OSError:
        return False
