"""The broker as a process: `serve` is its body; `EngineProcess` is how another process starts, watches and stops it.

parent                                   engine
settings ---- stdin ------------------>  read; then its end means: the parent is gone, stop
report  <---- READY pipe -------------   {"pid"} once workers can attach, or {"error"}
SIGTERM ----------------------------->   drain and stop; a second one: stop at once
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import msgpack

from broker.server import Server
from broker.settings import Settings
from broker.systemd import Service
from worker_client.wire.errors import BrokerError

_log = logging.getLogger("onesession.engine")
_LENGTH = struct.Struct("<I")

_engines: weakref.WeakSet[EngineProcess] = weakref.WeakSet()

_ENTRY = "import sys; from broker.engine import main; sys.exit(main())"

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """A stop came while the models were still loading."""


def serve(
    settings: Settings,
    on_ready: Callable[[], None],
    parent: int | None = None,
    service: Service | None = None,
) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP, or until the pipe `parent` ends; the exit status. Main thread only.

    `service` is the unit of systemd that this process is. Raises BrokerError if the broker cannot start.
    """
    stopper = _Stopper()
    failed = threading.Event()
    service = service or Service(None, None)

    def fail() -> None:
        failed.set()
        stopper.stop()

    with stopper.handling(parent):
        try:
            server = Server(settings, on_failure=fail)
            stopper.loading = False
        except Stopped:
            return 0
        server.start()
        on_ready()
        service.ready(server.threads)
        stopper.wait(service.interval, service.tick)
        _log.info("stopping")
        service.stopping()
        server.stop()
    return 1 if failed.is_set() else 0


class _Stopper:
    """Stops in order at the first signal, at once at the second; while models load, by an exception.

    That the parent is gone is told by SIGIO, too, and not by a thread: TensorFlow is best imported without any.

    The main thread waits on the descriptor to which every signal writes: one that another thread receives, or that
    comes just before a wait, would not wake it from a lock.
    """

    def __init__(self) -> None:
        self.stopping = False
        self.loading = True
        self._wakeup, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def stop(self) -> None:
        """Any thread."""
        self.stopping = True
        os.write(self._write_end, b"\0")

    def wait(self, interval: float | None, tick: Callable[[], None]) -> None:
        """Until a stop, with a `tick` every `interval` seconds. Main thread only."""
        while not self.stopping:
            if select.select([self._wakeup], [], [], interval)[0]:
                os.read(self._wakeup, 4096)
            else:
                tick()

    @contextlib.contextmanager
    def handling(self, parent: int | None) -> Iterator[None]:
        before = {number: signal.signal(number, self._on_signal) for number in (*STOP_SIGNALS, signal.SIGIO)}
        wakeup_before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        try:
            if parent is not None:
                signal_end_of(parent)
            yield
        except Stopped:
            pass
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._wakeup)
            os.close(self._write_end)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.stopping:
            if number != signal.SIGIO:
                os._exit(128 + number)
            return
        self.stopping = True
        if self.loading:
            raise Stopped


def signal_end_of(pipe: int) -> None:
    """Have SIGIO sent to this process when the pipe's other end is closed, or now if it is."""
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if poll.poll(0):
        os.kill(os.getpid(), signal.SIGIO)


class EngineProcess:
    """A broker in a process of its own, which ends with this one, however this one ends.

    It belongs to the process that started it: in a child forked later the handle is as if never started.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        _engines.add(self)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Return when workers can attach. Raises BrokerError with the engine's own message."""
        ready, report = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _ENTRY, str(report)],
                stdin=subprocess.PIPE,
                pass_fds=[report],
                env={**os.environ, "PYTHONPATH": python_path()},
                start_new_session=True,  # a Ctrl-C is for the parent, which then stops the engine
            )
        finally:
            os.close(report)
        try:
            self._send_settings()
            self._await_report(ready)
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(ready)

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """Stop in order and wait; kill it if it takes longer than its drain allows."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()  # its end stops the engine as SIGTERM would
        try:
            process.wait(self.settings.drain_seconds + 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def forget(self) -> None:
        """In a forked child: let go of the pipe whose end tells the engine that its parent has ended."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.returncode = 0  # not our child: nothing to wait for, nothing to warn of

    def _send_settings(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        body = msgpack.packb(self.settings.to_message())
        with contextlib.suppress(BrokenPipeError):  # then it has died, and the report says so
            self._process.stdin.write(_LENGTH.pack(len(body)) + body)
            self._process.stdin.flush()

    def _await_report(self, ready: int) -> None:
        assert self._process is not None
        with open(ready, "rb", closefd=False) as pipe:
            report = pipe.read()
        if not report:
            status = self._process.wait()
            raise BrokerError(f"the broker's process ended with status {status} before it was ready")
        message = msgpack.unpackb(report)
        if "error" in message:
            raise BrokerError(message["error"])


def _forget_all() -> None:
    for engine in list(_engines):
        engine.forget()


os.register_at_fork(after_in_child=_forget_all)


def python_path() -> str:
    """What this process can import, the engine can: models may be `module:function`."""
    return os.pathsep.join(dict.fromkeys(entry or os.getcwd() for entry in sys.path))


def log_to_stderr(level: int = logging.INFO) -> None:
    logging.basicConfig(
        stream=sys.stderr, format="%(asctime)s broker[%(process)d] %(levelname)s: %(message)s"
    )
    logging.getLogger("onesession").setLevel(level)


def _read_settings() -> Settings:
    stdin = sys.stdin.buffer
    (length,) = _LENGTH.unpack(stdin.read(_LENGTH.size))
    message: dict[str, Any] = msgpack.unpackb(stdin.read(length))
    return Settings.from_message(message)


def main() -> int:
    log_to_stderr(logging.WARNING)
    logging.getLogger("onesession.tuning").setLevel(
        logging.INFO
    )  # a first start takes its time, and says why
    report = int(sys.argv[1])

    def tell(message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(report, msgpack.packb(message))
        os.close(report)

    try:
        return serve(_read_settings(), lambda: tell({"pid": os.getpid()}), sys.stdin.fileno())
    except BrokerError as error:
        tell({"error": str(error)})
        return 1
