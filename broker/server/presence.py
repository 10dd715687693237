"""Keeps a broker reachable at its address: creates the socket again if it was removed, and removes it when an idle
broker ends."""

from __future__ import annotations

import logging
from collections.abc import Callable

from broker.control_plane.address_lock import CHECK_SECONDS, AddressLock
from broker.control_plane.server import ControlServer
from broker.server.retirement import Idleness, Retirement
from broker.sharing.access import Access
from worker_client.system.clock import monotonic
from worker_client.wire.control import Message

_log = logging.getLogger("onesession.server")


class Presence:
    """The broker's presence at its address. Once it is `retired`, no worker can connect any more. Called on the control
    thread only, except `finish`.

    `on_idle` is called when there has been no worker for `idle_seconds` (0: never), and none can connect any more.
    """

    def __init__(
        self,
        address_lock: AddressLock,
        access: Access,
        idle_seconds: float,
        on_idle: Callable[[], None] | None,
    ) -> None:
        self.retired = False
        self._address_lock = address_lock
        self._access = access
        self._control: ControlServer | None = None
        self._on_idle = on_idle or (lambda: None)
        self._retirement = Retirement(address_lock)
        counts = on_idle is not None and idle_seconds > 0
        self._idleness = Idleness(idle_seconds, monotonic()) if counts else None

    def watch(self, control: ControlServer) -> None:
        """Have the control thread check regularly. Call it before that thread runs."""
        self._control = control
        control.regularly(CHECK_SECONDS, self._check_address)
        if self._idleness is not None:
            control.regularly(min(CHECK_SECONDS, self._idleness.seconds / 4), self._check_idleness)

    def worker_left(self) -> None:
        if self._idleness is not None:
            self._idleness.worker_left(monotonic())

    def message(self) -> Message:
        """The idle time after which the broker ends, and how much of it is left."""
        idle = self._idleness
        return {
            "idle_seconds": None if idle is None else idle.seconds,
            "ends_in_seconds": None if idle is None else idle.seconds_left(monotonic()),
        }

    def finish(self) -> None:
        """Finish the retirement, after the address was released."""
        self._retirement.finish()

    def _check_address(self) -> None:
        if not self.retired and self._address_lock.restore() is not None:
            assert self._control is not None
            self._access.open_path(self._address_lock.path, self._address_lock.own_directory)
            self._control.listen_at(self._address_lock.listener)

    def _check_idleness(self) -> None:
        assert self._idleness is not None
        assert self._control is not None
        sessions = self._control.sessions
        workers = sum(session.channel is not None for session in sessions)
        if not self._idleness.update(workers, monotonic()) or self.retired or sessions:
            return
        self.retired = self._retirement.begin()
        if self.retired:
            _log.info("stopping: there has been no worker for %g s", self._idleness.seconds)
            self._on_idle()
        else:
            self._check_address()  # a worker has connected in the meantime
            self._retirement.put_off()
