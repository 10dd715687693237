"""Notifies systemd, if that started the broker: that it is ready, that it stops, that it still makes progress.

    $NOTIFY_SOCKET   <-- READY=1, STOPPING=1, STATUS=...   (Type=notify)
    $WATCHDOG_USEC   <-- WATCHDOG=1 twice in that time, as long as every watched thread makes progress

The protocol is sd_notify(3): one datagram per message.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping

_log = logging.getLogger("onesession.systemd")

Call = Callable[[Callable[[], None]], None]
"""A function that has a thread run an action between two of its rounds."""
Stuck = Callable[[float], list[str]]
"""A function that names what has made no progress for this many seconds."""


class Service:
    """The broker as a unit of systemd; without systemd every method does nothing."""

    def __init__(self, address: str | None, watchdog_seconds: float | None) -> None:
        self._address = address
        self._watchdog_seconds = watchdog_seconds
        self._progress: ThreadProgress | None = None
        self._stuck_elsewhere: Stuck = lambda _seconds: []

    @classmethod
    def from_environment(cls) -> Service:
        """Read its variables, and remove them from the environment: they are not for the processes that we start."""
        address = os.environ.pop("NOTIFY_SOCKET", None) or None
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        pid = os.environ.pop("WATCHDOG_PID", "") or str(os.getpid())
        ours = address is not None and pid == str(os.getpid()) and microseconds.isdigit()
        return cls(address, int(microseconds) / 1e6 if ours and int(microseconds) else None)

    @property
    def interval(self) -> float | None:
        """Seconds between two calls of `tick`; None if systemd does not watch."""
        return None if self._watchdog_seconds is None else self._watchdog_seconds / 2

    def ready(self, threads: Mapping[str, Call], stuck: Stuck = lambda _seconds: []) -> None:
        """Notify that workers can attach; from now on these threads are watched. `stuck` reports threads of another
        process."""
        self._stuck_elsewhere = stuck
        self._send("READY=1", "STATUS=serving")
        if self.interval is not None:
            self._progress = ThreadProgress(threads)
            self.tick()

    def tick(self) -> None:
        """Notify systemd that the process is alive, unless a thread has made no progress since the last tick."""
        if self._progress is None or self.interval is None:
            return
        stuck = [*self._progress.stuck(), *self._stuck_elsewhere(self.interval)]
        if not stuck:
            self._send("WATCHDOG=1")
        else:
            _log.critical("no progress of %s since the last check", " and ".join(stuck))
            self._send(f"STATUS=no progress of {' and '.join(stuck)}")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=finishing the accepted requests")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        # A leading @ stands for the zero byte of an abstract socket.
        name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto("\n".join(lines).encode(), name)
        except OSError as error:  # or its queue is full, and the next tick comes soon
            _log.warning("systemd could not be notified of %s: %s", lines[0], error)


class ThreadProgress:
    """Checks whether threads make progress: each is asked to run a trivial action, and must have run it by the next
    check."""

    def __init__(self, threads: Mapping[str, Call]) -> None:
        self._threads = dict(threads)
        self._waiting: set[str] = set()

    def stuck(self) -> list[str]:
        """The threads that have not run the action of the last call; the others are asked again."""
        stuck = sorted(self._waiting)
        for name, call in self._threads.items():
            if name not in stuck:
                self._waiting.add(name)
                call(self._done(name))
        return stuck

    def _done(self, name: str) -> Callable[[], None]:
        return lambda: self._waiting.discard(name)
