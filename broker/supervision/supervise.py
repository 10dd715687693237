"""The parent that restarts the broker when it dies. It imports no TensorFlow.

broker run ---+-- broker process (its own session: the terminal's Ctrl-C does not reach it)
               +-- COMMAND, with $BROKER_ADDRESS; gets our signals; we exit with its status

broker serve --supervise, Broker(...) ---- broker process
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence

from broker.config.logs import log_to_stderr, write_apart
from broker.config.settings import Settings
from broker.host import system_calls
from broker.observe.liveness import CHECK_SECONDS
from broker.process.broker_process import STOP_SIGNALS, StartupPipe
from broker.process.main import log_stop, signal_end_of
from broker.process.signals import InheritedSignals, Signals, begin_again_blocked, blocked, heeded
from broker.process.systemd import Service
from broker.process.title import entitle
from broker.supervision.orphans import reap
from broker.supervision.supervisor import Supervisor
from broker.supervision.witness import Witness
from worker_client.system.clock import monotonic
from worker_client.wire.address import VARIABLE
from worker_client.wire.errors import BrokerError

_log = logging.getLogger("onesession.supervisor")

FORWARDED = frozenset(
    {
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGWINCH,
    }
)
_FROM_TERMINAL = 128  # si_code SI_KERNEL: the terminal has also sent it to the command
_ENDING_SECONDS = 30.0


# -- onesession serve --supervise, Broker(...) -------------------------------------------------------------------------


def serve(
    settings: Settings,
    on_ready: Callable[[], None],
    parent: int | None = None,
    service: Service | None = None,
) -> int:
    """Keep a broker running until SIGTERM, SIGINT or SIGHUP, or until the pipe `parent` ends, and return the exit
    status. A second signal kills the broker. Called on the main thread only.

    `service` is this process's systemd unit. Its watchdog also covers the broker process: it fires if that makes no
    progress, but not while it is being started again. Raises BrokerError if the broker cannot start, or cannot be
    started again."""
    system_calls.check_to_supervise()
    service = service or Service(None, None)
    started_by = os.getppid()
    with blocked({*heeded(STOP_SIGNALS), signal.SIGIO}) as signals:
        write_apart()
        if parent is not None:
            signal_end_of(parent)
        supervisor = Supervisor(settings)
        try:
            if _await_ready(supervisor, signals) is None:
                on_ready()
                service.ready({}, supervisor.stuck)
                _keep(supervisor, signals, service)
            log_stop(started_by)
            service.stopping()
            supervisor.begin_stop()
            return _await_end(supervisor, signals)
        finally:
            supervisor.release()


def begin_again_to_serve() -> None:
    """Called before `serve` in a process that has threads already."""
    begin_again_blocked({*heeded(STOP_SIGNALS), signal.SIGIO})


def _await_ready(supervisor: Supervisor, signals: Signals) -> int | None:
    """Wait until the first broker process is ready. Returns None then; otherwise the signal that stops it."""
    stops = {*heeded((*STOP_SIGNALS, signal.SIGQUIT)), signal.SIGIO}
    while True:
        supervisor.poll()
        if supervisor.ready:
            return None
        info = signals.next(supervisor.seconds_to_next_poll)
        if info is not None and info.si_signo in stops:
            return info.si_signo


def _keep(supervisor: Supervisor, signals: Signals, service: Service) -> None:
    """Keep the broker running until a signal stops it."""
    while True:
        supervisor.poll()
        service.tick()
        info = signals.next(min(supervisor.seconds_to_next_poll, service.interval or CHECK_SECONDS))
        if info is not None and info.si_signo != signal.SIGCHLD:
            return
        reap({supervisor.pid: supervisor.take_exit_status})


def _await_end(supervisor: Supervisor, signals: Signals) -> int:
    """Wait until the broker process has drained, or a second signal comes."""
    deadline = monotonic() + supervisor.stop_seconds
    while not supervisor.ended and (left := deadline - monotonic()) > 0:
        info = signals.next(left)
        if info is not None and info.si_signo in heeded(STOP_SIGNALS):
            supervisor.kill()
            return 128 + info.si_signo
    supervisor.kill()
    return 0


def main() -> int:
    """The body of a process that `BrokerProcess` has started, `supervised`."""
    startup_pipe = StartupPipe()
    entitle("supervisor", startup_pipe.settings)
    log_to_stderr(startup_pipe.settings.log_level, startup_pipe.settings.log_format)
    try:
        return serve(startup_pipe.settings, startup_pipe.report_ready, startup_pipe.parent)
    except BrokerError as error:
        if startup_pipe.reported:
            _log.critical("%s", error)
        else:
            startup_pipe.report_error(error)
        return 1


# -- onesession run ----------------------------------------------------------------------------------------------------


def run(settings: Settings, command: Sequence[str]) -> int:
    """Run COMMAND beside a broker; the command's exit status (128 + N for signal N). Main thread only.

    Raises BrokerError if the broker cannot start, or cannot be started again, or the command cannot be started.
    """
    system_calls.check_to_supervise()
    with blocked(FORWARDED) as signals:
        write_apart()
        supervisor = Supervisor(settings)
        try:
            stopped_by = _await_ready(supervisor, signals)
            if stopped_by is not None:
                return 128 + stopped_by
            return _run_command(supervisor, signals, settings.address, command)
        finally:
            signals.discard()  # they were sent for the command
            supervisor.begin_stop()
            _await_end(supervisor, signals)
            supervisor.release()


def begin_again_to_run() -> None:
    """Called before `run` in a process that has threads already."""
    begin_again_blocked(FORWARDED)


def _run_command(supervisor: Supervisor, signals: Signals, address: str, command: Sequence[str]) -> int:
    process = _start(command, address, signals.given)
    with _witness() as witness:
        while process.poll() is None:
            try:
                supervisor.poll()
            except BrokerError as error:
                _log.critical("%s; stopping %s", error, command[0])
                _end(process)
                raise
            info = signals.next(supervisor.seconds_to_next_poll)
            if info is not None and info.si_signo != signal.SIGCHLD:
                _pass_on(info, process, witness)
            reap({process.pid: process.poll, supervisor.pid: supervisor.take_exit_status})
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _start(command: Sequence[str], address: str, given: InheritedSignals) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command),
            env={**os.environ, VARIABLE: address},
            preexec_fn=given.restore,  # noqa: PLW1509 - no other thread of ours holds a lock that it needs
        )
    except OSError as error:
        raise BrokerError(f"cannot run {command[0]!r}: {error.strerror}") from None


@contextlib.contextmanager
def _witness() -> Iterator[Witness | None]:
    """A witness; None if it cannot be started: a signal to the group then reaches the command twice."""
    try:
        witness = Witness()
    except OSError as error:
        _log.warning(
            "cannot start the process that recognises signals to the process group: %s", error.strerror
        )
        yield None
        return
    try:
        yield witness
    finally:
        witness.stop()


def _pass_on(info: signal.struct_siginfo, process: subprocess.Popen[bytes], witness: Witness | None) -> None:
    """Send the signal to the command, unless it got the signal already: from its terminal, or as a member of our
    process group."""
    if info.si_code == _FROM_TERMINAL:
        if witness is not None:
            witness.forget()
    elif not (witness is not None and witness.saw(info.si_signo) and _is_in_our_group(process.pid)):
        process.send_signal(info.si_signo)


def _is_in_our_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == os.getpgrp()
    except ProcessLookupError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
