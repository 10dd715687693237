"""What a broker tells systemd, if that started it: that it is ready, that it stops, that it still makes progress.

    $NOTIFY_SOCKET   <-- READY=1, STOPPING=1, STATUS=...   (Type=notify)
    $WATCHDOG_USEC   <-- WATCHDOG=1 twice in that time, as long as every thread in `Progress` goes round

The protocol is sd_notify(3): one datagram a message.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping

_log = logging.getLogger("onesession.systemd")

Call = Callable[[Callable[[], None]], None]
"""Has a thread do something between two of its rounds."""
Stuck = Callable[[float], list[str]]
"""What has made no progress for so many seconds."""


class Service:
    """The broker as a unit of systemd; without systemd every method does nothing."""

    def __init__(self, address: str | None, watchdog_seconds: float | None) -> None:
        self._address = address
        self._watchdog_seconds = watchdog_seconds
        self._progress: ThreadProgress | None = None
        self._stuck_elsewhere: Stuck = lambda _seconds: []

    @classmethod
    def from_environment(cls) -> Service:
        """Takes its variables out of the environment: they are not for the processes that we start."""
        address = os.environ.pop("NOTIFY_SOCKET", None) or None
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        pid = os.environ.pop("WATCHDOG_PID", "") or str(os.getpid())
        ours = address is not None and pid == str(os.getpid()) and microseconds.isdigit()
        return cls(address, int(microseconds) / 1e6 if ours and int(microseconds) else None)

    @property
    def interval(self) -> float | None:
        """Seconds between two calls of `tick`; None if nobody watches."""
        return None if self._watchdog_seconds is None else self._watchdog_seconds / 2

    def ready(self, threads: Mapping[str, Call], stuck: Stuck = lambda _seconds: []) -> None:
        """Workers can attach; from now on these threads are watched. `stuck` tells of those of another process."""
        self._stuck_elsewhere = stuck
        self._send("READY=1", "STATUS=serving")
        if self.interval is not None:
            self._progress = ThreadProgress(threads)
            self.tick()

    def tick(self) -> None:
        """Tell systemd that we live, unless a thread has not gone round since the last tick."""
        if self._progress is None or self.interval is None:
            return
        stuck = [*self._progress.stuck(), *self._stuck_elsewhere(self.interval)]
        if not stuck:
            self._send("WATCHDOG=1")
        else:
            _log.critical("no progress of %s since the last look", " and ".join(stuck))
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
        except OSError as error:  # also: its queue is full, and the next tick comes soon
            _log.warning("systemd could not be notified of %s: %s", lines[0], error)


class ThreadProgress:
    """Whether threads go round: each is asked to do a trifle, and must have done it when next looked at."""

    def __init__(self, threads: Mapping[str, Call]) -> None:
        self._threads = dict(threads)
        self._waiting: set[str] = set()

    def stuck(self) -> list[str]:
        """The threads that have not done since the last call what that asked of them; the others are asked again."""
        stuck = sorted(self._waiting)
        for name, call in self._threads.items():
            if name not in stuck:
                self._waiting.add(name)
                call(self._done(name))
        return stuck

    def _done(self, name: str) -> Callable[[], None]:
        return lambda: self._waiting.discard(name)
