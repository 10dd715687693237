"""The broker as a process: its main thread, which waits for a stop. `broker_process.py` is the parent's side."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator

from broker.config.logs import log_to_stderr, write_apart
from broker.config.settings import Settings
from broker.control_plane.address_lock import AddressLock, InheritedFds
from broker.counters.run_record import RunRecord
from broker.host.processes import is_ending
from broker.own_process.descriptor_limit import raise_descriptors
from broker.process import load_watch
from broker.process.broker_process import STOP_SIGNALS, StartupPipe
from broker.process.signals import heeded
from broker.process.systemd import Service
from broker.process.title import entitle
from broker.server.server import Server
from worker_client.ipc import own_broker
from worker_client.wire.address import socket_path
from worker_client.wire.errors import BrokerError

_log = logging.getLogger("onesession.engine")
_start_log = logging.getLogger("onesession.start")


class Stopped(BaseException):
    """Raised when a stop comes while the models are still loading."""


def serve(
    settings: Settings,
    on_ready: Callable[[], None],
    parent: int | None = None,
    fds: tuple[int, int, int] | None = None,
    service: Service | None = None,
    record: RunRecord | None = None,
    watched: bool = False,
) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP, or until the pipe `parent` ends, and return the exit status. Called on the
    main thread only.

    `fds`: the address, if the parent owns it. The parent reads `record`, and also ends a start that takes too long if
    we are `watched`. `service` is this process's systemd unit. Raises BrokerError if the broker cannot start. Ends the
    process immediately when a run hangs that nothing else can end, or when one still hangs after the drain.
    """
    started_by = os.getppid()
    own_broker.be_alone()
    raise_descriptors()
    stopper = _Stopper()
    failed = threading.Event()
    service = service or Service(None, None)

    def fail() -> None:
        failed.set()
        stopper.stop()

    with stopper.handling():
        try:
            stopper.begin_loading(parent)
            path = socket_path(settings.address)
            address_lock = (
                AddressLock(path) if fds is None else AddressLock(path, InheritedFds(*fds, owner=parent))
            )
            record = record or RunRecord()
            _start_log.info("loading %s", ", ".join(spec.name for spec in settings.models))
            with _seen_to(record, settings, address_lock, watched):
                server = Server(
                    settings,
                    on_failure=fail,
                    address_lock=address_lock,
                    record=record,
                    on_hung=_end_at_once,
                    on_idle=stopper.stop if fds is None else None,
                )
                stopper.loading = False
        except Stopped:
            return 0
        write_apart()

        def tell() -> None:
            on_ready()
            _start_log.info("serving %s at %s", ", ".join(server.repository.models), settings.address)
            service.ready(server.threads)

        server.start(tell)
        stopper.wait(service.interval, service.tick)
        if not server.retired:
            log_stop(started_by)
        service.stopping()
        if not server.stop():
            _end_process(1 if failed.is_set() else 0)  # the remaining threads would keep it from ending
    return 1 if failed.is_set() else 0


@contextlib.contextmanager
def _seen_to(
    record: RunRecord, settings: Settings, address_lock: AddressLock, watched: bool
) -> Iterator[None]:
    """Limit the time of the start in the block: by our parent, if it watches, and by a timer as the last resort."""

    def give_up(why: str) -> None:
        address_lock.note_failure(why)
        address_lock.release()
        _end_process(1)

    limit_s = settings.start_seconds
    with contextlib.ExitStack() as stack:
        stack.enter_context(load_watch.ended_in_any_case(limit_s))
        if not watched:
            stack.enter_context(load_watch.reported_loads(record, limit_s, give_up))
        yield


def _end_at_once(server: Server) -> None:
    """End this process; its supervisor starts it again."""
    server.disconnect()
    server.address_lock.release()
    _end_process(1)


def _end_process(status: int) -> None:
    logging.shutdown()
    os._exit(status)


class _Stopper:
    """Stops in order at the first signal, immediately at the second; while models load, by an exception.

    SIGIO reports that the parent is gone; a thread would do, but TensorFlow is best imported without threads.

    The main thread waits on the descriptor to which every signal writes: a signal that another thread receives, or that
    comes just before the wait, would not wake it from a lock.
    """

    def __init__(self) -> None:
        self.stopping = False
        self.loading = False
        self._wakeup, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def begin_loading(self, parent: int | None) -> None:
        """From now on a stop raises Stopped, also one that came before; so does the end of the pipe `parent`."""
        self.loading = True
        if self.stopping:
            raise Stopped
        if parent is not None:
            signal_end_of(parent)

    def stop(self) -> None:
        """Any thread."""
        self.stopping = True
        os.write(self._write_end, b"\0")

    def wait(self, interval: float | None, tick: Callable[[], None]) -> None:
        """Wait for a stop, and call `tick` every `interval` seconds. Called on the main thread only."""
        while not self.stopping:
            if select.select([self._wakeup], [], [], interval)[0]:
                os.read(self._wakeup, 4096)
            else:
                tick()

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        taken = (*heeded(STOP_SIGNALS), signal.SIGIO)
        before = {number: signal.signal(number, self._on_signal) for number in taken}
        wakeup_before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        try:
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
    """Have SIGIO sent to this process when the pipe's other end is closed, or now if it is closed already."""
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if poll.poll(0):
        os.kill(os.getpid(), signal.SIGIO)


def log_stop(started_by: int) -> None:
    """Log why the broker stops. `started_by`: the pid of our parent when we started."""
    if os.getppid() == started_by and not is_ending(started_by):
        _log.info("stopping")
        return
    _log.warning(
        "stopping, because the process that started this broker (pid %d) has ended. A program that "
        "detaches from its "
        "terminal by a fork must start its broker after that fork",
        started_by,
    )


def main() -> int:
    """The body of a process that `BrokerProcess` started."""
    startup_pipe = StartupPipe()
    entitle("broker", startup_pipe.settings)
    log_to_stderr(startup_pipe.settings.log_level, startup_pipe.settings.log_format)
    try:
        return serve(
            startup_pipe.settings,
            startup_pipe.report_ready,
            startup_pipe.parent,
            startup_pipe.fds,
            None,
            startup_pipe.record,
            bool(startup_pipe.fds),
        )
    except BrokerError as error:
        startup_pipe.report_error(error)
        return 1
