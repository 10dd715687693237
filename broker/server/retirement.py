"""The end of a broker that nobody uses: without a worker that could meet it half gone.

    no worker for idle_seconds
      -> the start lock, where it is a node's broker: whoever would start the next one waits
      -> the socket's file away: nobody connects any more
      -> has somebody connected meanwhile?  yes: a new socket, the waiting ones are taken, the lock back, all goes on
      -> stop

Only those that have attached count as workers. One that has only connected, as `broker status` does, does not keep the
broker, but the broker does not end while it is there.
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
    """For how long there has been no worker. Knows no clock."""

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self._since: float | None = now

    def update(self, workers: int, now: float) -> bool:
        """Whether it has lasted long enough, by the number of workers now."""
        if workers:
            self._since = None
        elif self._since is None:
            self._since = now
        return self._since is not None and now - self._since >= self.seconds

    def worker_left(self, now: float) -> None:
        """It may have come after the last look."""
        self._since = now

    def seconds_left(self, now: float) -> float | None:
        """None while there are workers."""
        return None if self._since is None else max(0.0, self.seconds - (now - self._since))


class Retirement:
    """Of the broker at this address; for a node's, with the files that stand for it."""

    def __init__(self, address_lock: AddressLock) -> None:
        self._address_lock = address_lock
        self._lock: StartLock | None = None

    def begin(self) -> bool:
        """Have nobody connect any more; False if somebody is about to, and the broker must go on: `put_off`."""
        if not self._take_lock():
            return False
        self._address_lock.withdraw()
        return not _somebody_waits(self._address_lock)

    def put_off(self) -> None:
        """Once the socket is there again, if it was away: before, whoever had the lock would start a second broker."""
        self._leave_lock()

    def finish(self) -> None:
        """Once the address is given up: the node's files go, and the next start may come."""
        path = self._address_lock.path
        if not self._take_lock() or self._lock is None or path.exists():  # the next broker's
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
        """True also where there is none to take."""
        if self._lock is None and node_files.is_node(self._address_lock.path):
            try:
                self._lock = StartLock.take(self._address_lock.path)
            except BrokerError:  # no directory, no room: nobody can start one either
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
