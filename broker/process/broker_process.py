"""The broker as a separate process, seen from its parent: start it, watch it, stop it.

parent                                   child: a broker process, or the supervisor of one
settings ---- stdin ------------------>   read; afterwards its end means: the parent is gone, stop
report  <---- READY pipe -------------   {"pid", "ready_ns"} before workers are answered, or {"error", "can_pass"}
run record <-- shared memory ---------   of a broker process: what it loads, what each thread runs (`run_record`)
locks, listening socket - inherited ->  if the parent owns the address (`address_lock.py`)
SIGTERM ----------------------------->   drain and stop; a second one: stop immediately
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import struct
import sys
from typing import Any

import msgpack

from broker.config.settings import Settings
from broker.control_plane import locks
from broker.control_plane.address_lock import AddressLock
from broker.counters.run_record import RunRecord
from broker.host import processes
from broker.own_process import descriptors
from broker.process import signals
from broker.process.spawn import SpawnedProcess
from worker_client.interpreter import fork
from worker_client.interpreter.surroundings import program, python_path
from worker_client.system.clock import monotonic, monotonic_ns
from worker_client.system.limits import no_descriptor
from worker_client.wire.address import socket_path
from worker_client.wire.errors import BrokerError, InvalidInput, Overloaded

_LENGTH = struct.Struct("<I")
_ANY_BYTES = "surrogateescape"  # file names need not be UTF-8
# Set the mask first, so that every thread that an import starts has it. A Ctrl-C that came before this process had its
# own session is pending here, and is the parent's: to ignore it for a moment discards it.
BEGINNING = (
    "import signal; _ = signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGINT, _); "
    "signal.pthread_sigmask(signal.SIG_SETMASK, {mask}); "
)
_ENTRY = "from {module} import main; sys.exit(main())"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that end a broker. The end of its standard input comes as SIGIO."""
_LONGEST_POLL_MS = 1 << 30
_GRACE_SECONDS = 10.0  # in addition to the drain time
_LOADING_GRACE_SECONDS = 5.0


class BrokerProcess:
    """A broker in a separate process, which ends with this process, however this one ends.

    With `supervised`, that process restarts the broker when it dies; with `address_lock`, this process owns the address
    and the broker inherits it. The handle belongs to the process that started it: in a child forked later it behaves as
    if never started.
    """

    def __init__(
        self, settings: Settings, supervised: bool = False, address_lock: AddressLock | None = None
    ) -> None:
        self.settings = settings
        self.supervised = supervised
        mask = [int(number) for number in (*STOP_SIGNALS, signal.SIGIO, signal.SIGCHLD)]
        module, mask = ("broker.supervision.supervise", mask) if supervised else ("broker.process.main", [])
        self._entry = BEGINNING.format(mask=mask) + program(_ENTRY.format(module=module))
        self._stop_seconds = settings.drain_seconds + (2 if supervised else 1) * _GRACE_SECONDS
        self._address_lock = address_lock
        self.record = RunRecord()
        """What it loads and runs, or did when it ended; always empty if another process supervises it
        (`supervised`)."""
        self._process: SpawnedProcess | None = None
        self._ready = -1
        self._report = b""
        fork.register(self, BrokerProcess.after_fork_in_child)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self, seconds: float = 0.0) -> None:
        """Start the process, and return when it answers workers. Raises BrokerError with the broker process's own
        message, or if the start takes longer than `seconds`; 0 for no limit."""
        try:
            self.launch()
            self._read_report(seconds + _GRACE_SECONDS if seconds and self.supervised else seconds)
            if "ready_ns" not in self.report():
                raise BrokerError(self.failure())
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start the process, and return while it still loads. Raises BrokerError if no process can be started."""
        self._report = b""
        try:
            self._spawn()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise no_descriptor("the broker's process cannot be started", error.errno) from None
            raise BrokerError(f"the broker's process cannot be started: {error}") from None
        self._send_settings()

    def has_ended(self) -> bool:
        """Whether the process has ended; False if it was never started."""
        return self._process is not None and self._process.has_ended()

    def report(self) -> dict[str, Any]:
        """The report of the process: empty while it loads."""
        if self._ready >= 0 and not self._report:
            os.set_blocking(self._ready, False)
            with contextlib.suppress(BlockingIOError):
                self._report = os.read(self._ready, 1 << 16)
        return dict(msgpack.unpackb(self._report, unicode_errors=_ANY_BYTES)) if self._report else {}

    def failure(self) -> str:
        """Why it did not become ready, after its end."""
        error = self.report().get("error")
        return error or f"the broker's process {self.describe_end()} before it was ready"

    @property
    def can_pass(self) -> bool:
        """Whether another start may succeed, after one that failed."""
        return bool(self.report().get("can_pass", True))

    @property
    def status(self) -> int | None:
        """After its end, its exit status, -N for signal N; None if other code took the status."""
        return None if self._process is None else self._process.status

    def describe_end(self) -> str:
        """How it has ended, or is just about to end."""
        assert self._process is not None
        return self._process.describe_end()

    @property
    def stop_seconds(self) -> float:
        """The time that an orderly stop may take; short while it loads, because it has accepted no request."""
        if "ready_ns" in self.report():
            return self._stop_seconds
        return (2 if self.supervised else 1) * _LOADING_GRACE_SECONDS

    def begin_stop(self) -> None:
        """Have it drain and stop, without waiting for its end."""
        if self._process is not None:
            self._process.stdin.close()  # its end stops the broker process as SIGTERM would

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """Stop in order and wait; kill it if it takes longer than its drain allows. Idempotent."""
        self.begin_stop()
        seconds = self.stop_seconds
        process, self._process = self._process, None
        if process is not None and not process.wait(seconds):
            process.kill()
            process.wait()
        self._close_ready()

    def after_fork_in_child(self) -> None:
        """Close the pipe whose end tells the broker process that its parent has ended."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        self._close_ready()

    def _spawn(self) -> None:
        """Start the process in its own session: a Ctrl-C reaches only the parent, which then stops the broker process.
        Raises OSError."""
        fds = () if self._address_lock is None else self._address_lock.inherited[:3]
        self.record = RunRecord() if self.supervised else _new_record()
        self._ready, report = descriptors.pipe()
        given = report, self.record.fd, *fds
        try:
            self._process = SpawnedProcess(
                ["-c", self._entry, *map(str, given)],
                keep=[fd for fd in given if fd >= 0],
                environment={**os.environ, "PYTHONPATH": python_path()},
            )
        finally:
            os.close(report)
            self.record.close_fd()

    def _send_settings(self) -> None:
        assert self._process is not None
        body = msgpack.packb(self.settings.to_message(), unicode_errors=_ANY_BYTES)
        rest = memoryview(_LENGTH.pack(len(body)) + body)
        with contextlib.suppress(BrokenPipeError):  # it has died, and the report says so
            while rest:
                rest = rest[self._process.stdin.write(rest) :]

    def _read_report(self, seconds: float) -> None:
        """Wait for the report, or for the process's end. Raises BrokerError if neither comes in time."""
        limit = monotonic() + seconds
        poll = select.poll()
        poll.register(self._ready, select.POLLIN)
        while True:
            left = max(0.0, limit - monotonic()) if seconds else None
            if not poll.poll(None if left is None else min(left * 1000, _LONGEST_POLL_MS)):
                if monotonic() < limit:
                    continue
                raise BrokerError(self._late(seconds))
            part = os.read(self._ready, 1 << 16)
            if not part:
                return
            self._report += part

    def _late(self, seconds: float) -> str:
        note = locks.note_at(socket_path(self.settings.address))
        if note is None or note.pid is None or not processes.exists(note.pid):
            state = "it has not yet taken its address"
        else:
            model, for_s = self.record.loading(monotonic_ns())
            loads = (
                f"has been loading model {model!r} for {for_s:.0f} s"
                if model
                else "is still loading its models"
            )
            state = f"pid {note.pid} {loads}"
        return (
            f"the broker's process (pid {self.pid}) was not ready within {seconds:g} s (start_seconds): "
            f"{state}. Its "
            f"log is {descriptors.name_of(2)}; see where it hangs (py-spy dump --pid), or raise start_seconds"
        )

    def _close_ready(self) -> None:
        ready, self._ready = self._ready, -1
        if ready >= 0:
            os.close(ready)


def _new_record() -> RunRecord:
    """A run record that the process shares; one of its own if the system has no such memory."""
    try:
        return RunRecord.create()
    except (OSError, Overloaded):
        return RunRecord()


class StartupPipe:
    """The child's side: what BrokerProcess passed to the process that it started. The main thread creates it, once."""

    def __init__(self) -> None:
        signals.heed_children()
        self._report, record, *fds = map(int, sys.argv[1:])
        self.fds = (fds[0], fds[1], fds[2]) if fds else None
        """The address, if our parent owns it; then the parent also watches this process through the record."""
        self.record = RunRecord.attach(record) if record >= 0 else RunRecord()
        self.parent = sys.stdin.fileno()
        stdin = sys.stdin.buffer
        (length,) = _LENGTH.unpack(stdin.read(_LENGTH.size))
        self.settings = Settings.from_message(msgpack.unpackb(stdin.read(length), unicode_errors=_ANY_BYTES))

    @property
    def reported(self) -> bool:
        return self._report < 0

    def report_ready(self) -> None:
        self._send({"pid": os.getpid(), "ready_ns": monotonic_ns()})

    def report_error(self, error: BrokerError) -> None:
        self._send({"error": str(error), "can_pass": not isinstance(error, InvalidInput)})

    def _send(self, message: dict[str, Any]) -> None:
        report, self._report = self._report, -1
        with contextlib.suppress(BrokenPipeError):
            os.write(report, msgpack.packb(message, unicode_errors=_ANY_BYTES))
        os.close(report)
