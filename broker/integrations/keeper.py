"""A broker that stays: a small process of its own starts the broker anew whenever that dies.

    server's master                keeper                      engine
    settings   ---- stdin ----->   EngineProcess ---------->   serves
    report     <--- pipe -------   {"pid"} once workers can attach, or {"error"}; its end: both have ended
    stdin's end -------------->    stops the engine in order and ends

The master does no more than that, since it forks and reaps at any time: it gets no thread, waits for no child of
ours, and uses nothing that gevent patches.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import struct
import sys
import time
import weakref
from dataclasses import replace
from typing import Any

import msgpack

from broker import engine, process
from broker.settings import Settings, Tune
from worker_client.wire.errors import BrokerError

_log = logging.getLogger("onesession.keeper")
_LENGTH = struct.Struct("<I")
_ENTRY = "import sys; from broker.integrations.keeper import main; sys.exit(main())"
_FIRST_PAUSE_S = 0.25
_LAST_PAUSE_S = 30.0
_PROVEN_S = 60.0
"""A broker that has served for as long is started again at once; one that dies sooner waits ever longer."""

_REVIVAL_S = 2.0
"""Between two keepers at least, should they die as they start."""

_OF_THE_MASTER = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
"""What systemd has given to the master alone."""

_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


class Keeper:
    """The master's handle. It belongs to the process that started it: in a fork of that it holds nothing."""

    def __init__(self, settings: Settings, environment: dict[str, str]) -> None:
        self.settings = settings
        self._environment = {key: text for key, text in environment.items() if key not in _OF_THE_MASTER}
        self._pid = 0
        self._lifeline = -1  # the keeper's stdin: its end ends the keeper
        self._report = -1
        self._next_revival = 0.0
        _keepers.add(self)

    def start(self) -> int:
        """The broker's process id, once workers can attach. Raises BrokerError if it cannot start."""
        self._spawn()
        report = self._first_report()
        if "error" in report:
            self.stop()
            raise BrokerError(report["error"])
        os.set_blocking(self._report, False)
        return int(report["pid"])

    def revive(self) -> bool:
        """Start the keeper again if it has died; return without waiting for its broker. True if it had.

        Raises OSError if there is no process or descriptor to be had; the next call tries again.
        """
        if (self._report >= 0 and not self._has_ended()) or time.monotonic() < self._next_revival:
            return False
        self.stop()
        self.settings = _restarted(self.settings)
        self._spawn()
        os.set_blocking(self._report, False)
        return True

    def stop(self) -> None:
        """Have the broker finish the accepted requests; return when both processes have ended. Idempotent."""
        if self._report < 0:
            return
        os.close(self._lifeline)
        os.set_blocking(self._report, True)
        while os.read(self._report, 4096):
            pass
        os.close(self._report)
        self._lifeline = self._report = -1
        with contextlib.suppress(ChildProcessError):  # the master reaps all its children
            os.waitpid(self._pid, 0)

    def forget(self) -> None:
        """Let go of the pipes: in a forked child, as their ends tell of the master's end."""
        if self._report >= 0:
            os.close(self._lifeline)
            os.close(self._report)
            self._lifeline = self._report = -1

    def _spawn(self) -> None:
        self._next_revival = time.monotonic() + _REVIVAL_S
        stdin, lifeline = os.pipe()
        try:
            self._report, report = os.pipe()
        except OSError:
            os.close(stdin)
            os.close(lifeline)
            raise
        self._lifeline = lifeline
        os.set_inheritable(report, True)
        try:
            # Not subprocess: gevent's watches every child, and takes the exit statuses that are the master's.
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-c", _ENTRY, str(report)],
                {**self._environment, "PYTHONPATH": process.python_path()},
                file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0)],
            )
        except OSError:
            self.forget()
            raise
        finally:
            os.close(stdin)
            os.close(report)
        body = msgpack.packb(self.settings.to_message())
        with contextlib.suppress(BrokenPipeError):  # then it has died, and says nothing
            os.write(self._lifeline, _LENGTH.pack(len(body)) + body)

    def _first_report(self) -> dict[str, Any]:
        raw = _read(self._report, _LENGTH.size)
        raw = _read(self._report, *_LENGTH.unpack(raw)) if len(raw) == _LENGTH.size else b""
        report: dict[str, Any] = (
            msgpack.unpackb(raw) if raw else {"error": "the broker's keeper died before it was ready"}
        )
        return report

    def _has_ended(self) -> bool:
        try:
            while os.read(self._report, 4096):
                pass
        except BlockingIOError:
            return False
        return True


def _forget_all() -> None:
    for keeper in list(_keepers):
        keeper.forget()


os.register_at_fork(after_in_child=_forget_all)


def _read(fd: int, nbytes: int) -> bytes:
    """As many bytes, or fewer at the end of the pipe."""
    found = b""
    while len(found) < nbytes and (more := os.read(fd, nbytes - len(found))):
        found += more
    return found


def _restarted(settings: Settings) -> Settings:
    """Workers wait: what was not measured before is not measured now."""
    return settings if settings.tune == Tune.OFF.value else replace(settings, tune=Tune.REMEMBERED.value)


class _Ended(BaseException):
    """The master is gone, or wants the broker gone."""


class _Watch:
    """The keeper's own process: the engine it keeps, and the master at the other end of its stdin."""

    def __init__(self, settings: Settings) -> None:
        self._engine = process.EngineProcess(settings)
        self._ending = False
        self._pause_s = 0.0
        self._wakeup, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (*process.STOP_SIGNALS, signal.SIGIO):
            signal.signal(number, self._on_signal)

    def keep(self, report: int) -> int:
        """Keep the broker running until the master ends; the exit status."""
        try:
            engine.signal_end_of(sys.stdin.fileno())
            try:
                self._engine.start()
            except BrokerError as error:
                _tell(report, {"error": str(error)})
                return 1
            _tell(report, {"pid": self._engine.pid})
            while True:
                self._await_death()
                self._restart()
        except _Ended:
            return 0
        finally:
            self._ending = True
            self._engine.stop()

    def _await_death(self) -> None:
        began = time.monotonic()
        pid = self._engine.pid
        assert pid is not None
        process = os.pidfd_open(pid)
        try:
            self._wait([process], None)
        finally:
            os.close(process)
        _log.error("the broker (pid %s) ended with status %s; starting it again", pid, self._engine.poll())
        if time.monotonic() - began >= _PROVEN_S:
            self._pause_s = 0.0

    def _restart(self) -> None:
        self._engine.stop()
        self._engine.settings = _restarted(self._engine.settings)
        while True:
            self._wait([], self._pause_s)
            self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _LAST_PAUSE_S)
            try:
                self._engine.start()
            except (BrokerError, OSError) as error:
                _log.error("the broker did not start again (next try in %.3g s): %s", self._pause_s, error)
                continue
            _log.warning("the broker is back, as pid %s", self._engine.pid)
            return

    def _wait(self, descriptors: list[int], seconds: float | None) -> None:
        """Until one of them can be read or the time is over. Raises _Ended, also for a signal just before."""
        ready, _, _ = select.select([*descriptors, self._wakeup], [], [], seconds)
        if self._ending or self._wakeup in ready:
            raise _Ended

    def _on_signal(self, _number: int, _frame: object) -> None:
        if not self._ending:
            self._ending = True
            raise _Ended


def _tell(report: int, message: dict[str, Any]) -> None:
    body = msgpack.packb(message)
    with contextlib.suppress(BrokenPipeError):
        os.write(report, _LENGTH.pack(len(body)) + body)


def main() -> int:
    with contextlib.suppress(PermissionError):
        os.setsid()  # a Ctrl-C is for the master, which then ends us
    engine.log_to_stderr(logging.WARNING)
    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    (length,) = _LENGTH.unpack(_read(sys.stdin.fileno(), _LENGTH.size))
    settings = Settings.from_message(msgpack.unpackb(_read(sys.stdin.fileno(), length)))
    return _Watch(settings).keep(report)
