"""`broker run`: one parent for the broker and for any prefork server. It imports no TensorFlow.

broker run ---+-- engine (session of its own: the terminal's Ctrl-C does not reach it)
              +-- COMMAND, with $BROKER_ADDRESS; gets the signals that we get; its exit status is ours
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Sequence

from broker.engine import EngineProcess
from broker.settings import Settings
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
_FROM_TERMINAL = 128  # si_code SI_KERNEL: the terminal has sent it to the command as well
_ENDING_SECONDS = 30.0


def run(settings: Settings, command: Sequence[str]) -> int:
    """Run COMMAND beside a broker; the command's exit status (128 + N for signal N). Main thread only.

    Raises BrokerError if the broker cannot start or dies, or the command cannot be started.
    """
    engine = EngineProcess(settings)
    engine.start()
    try:
        return _run_command(engine, settings.address, command)
    finally:
        engine.stop()


def _run_command(engine: EngineProcess, address: str, command: Sequence[str]) -> int:
    waited = FORWARDED | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    try:
        process = _start(command, address, before)
        while process.poll() is None:
            if engine.poll() is not None:
                _log.critical(
                    "the broker's process ended with status %s; stopping %s", engine.poll(), command[0]
                )
                _end(process)
                raise BrokerError("the broker's process died while the command ran")
            _pass_on(signal.sigwaitinfo(waited), process)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _start(command: Sequence[str], address: str, mask: set[int | signal.Signals]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command),
            env={**os.environ, VARIABLE: address},
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),  # noqa: PLW1509 - one thread here
        )
    except OSError as error:
        raise BrokerError(f"cannot run {command[0]!r}: {error.strerror}") from None


def _pass_on(info: signal.struct_siginfo, process: subprocess.Popen[bytes]) -> None:
    if info.si_signo != signal.SIGCHLD and info.si_code != _FROM_TERMINAL:
        process.send_signal(info.si_signo)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
