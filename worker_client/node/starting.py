"""Start the node's broker, once: one attempt of a call that found no broker at its address.

Any number of processes may try at the same time. At most one of them holds the lock at a time, checks again, and starts
a process that inherits the lock (`ipc/node_files.py`); all of them keep trying to connect. For a while after a failed
start, every caller gets the broker's own error message.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from worker_client.interpreter.executable import python
from worker_client.interpreter.surroundings import program, python_path
from worker_client.ipc.directory import check_directory
from worker_client.ipc.node_files import (
    LOCK_FD,
    StartLock,
    StartRecord,
    above_standard,
    cannot_be_written,
    listens,
    of_config,
)
from worker_client.node.wanted import Wanted
from worker_client.system.clock import monotonic_ns
from worker_client.wire.errors import BrokerError, BrokerUnavailable

FAILED_SECONDS = 30.0
"""How long no process tries again to start a broker that could not start."""
_STALE_SECONDS = 600.0  # after this time the failure of a start is ignored, if no call waited for it
_MOST_STARTS = 2  # of processes that die without a message, perhaps killed for lack of memory
_LONGEST_LOG = 1 << 20
_LAST_WORDS = 1 << 16
# they belong to the systemd unit that started this process
_OF_ANOTHER = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

# A worker of Spark, Ray or the like kills its children and their children when it ends, even those in other sessions.
# So an intermediate process forks the broker's process and ends at once. The broker's process closes the descriptors
# that it should not inherit.
_LAUNCHER = """
import os, sys
if os.fork(): os._exit(0)
os.setsid()
for fd in map(int, os.listdir("/proc/self/fd")):
    if fd > 3:
        try: os.close(fd)
        except OSError: pass
os.set_inheritable(3, True)
os.chdir(sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
"""

_launchers: list[int] = []


def start(wanted: Wanted, path: Path) -> None:
    """Start the broker at `path`, unless it runs or another process starts it. Does not wait for it. Raises
    BrokerUnavailable with the reason why the last start failed, or BrokerError."""
    _reap()
    check_directory(path.parent, ours=True)
    lock = StartLock.take(path)
    if lock is None:
        return
    handed_over = False
    try:
        if not listens(path):
            note = _next(lock, wanted, path)
            _write_config(wanted, path)
            lock.write(note, path)
            try:
                _launch(wanted, path, note, lock)
            except BaseException:
                lock.forget_start()
                raise
            handed_over = True
    finally:
        if handed_over:
            lock.close()
        else:
            lock.release()


def _next(lock: StartLock, wanted: Wanted, path: Path) -> StartRecord:
    """The record of the next start. Raises BrokerUnavailable if no start is allowed now."""
    now = monotonic_ns() / 1e9
    last = _recent(lock.read(), now)
    if last is not None:
        error = last.error or _last_words(last) or _died_silently(last)
        if error and not last.error:
            lock.write(StartRecord(last.log, last.log_at, now, last.starts, error), path)
        if error:
            raise BrokerUnavailable(f"the broker of this node cannot start: {error} (its log: {last.log})")
    log = wanted.log_of(path)
    return StartRecord(log, _size(log), now, 1 if last is None else last.starts + 1)


def _recent(note: StartRecord | None, now: float) -> StartRecord | None:
    """The record of the last start, or None if it no longer matters: after a restart of the machine, or after a long
    time."""
    if note is None:
        return None
    return note if 0 <= now - note.at < (FAILED_SECONDS if note.error else _STALE_SECONDS) else None


def _last_words(note: StartRecord) -> str:
    """The last message of the broker's log: the error of the command `broker`, or the end of a traceback."""
    try:
        with open(note.log, "rb") as log:
            log.seek(max(note.log_at, _size(note.log) - _LAST_WORDS))
            text = log.read().decode(errors="replace").strip()
    except OSError:
        return ""
    _, found, words = f"\n{text}".rpartition("\nError: ")
    if found:
        return words
    return text.splitlines()[-1] if "Traceback (most recent call last)" in text else ""


def _died_silently(note: StartRecord) -> str:
    if note.starts < _MOST_STARTS:
        return ""
    return f"its process ended {note.starts} times before it was ready, without a message; was it killed?"


def _size(log: str) -> int:
    """The position in the log where a start's output begins. A log that has become long is truncated."""
    with contextlib.suppress(OSError):
        size = os.stat(log).st_size
        if size <= _LONGEST_LOG:
            return size
        os.truncate(log, 0)
    return 0


def _write_config(wanted: Wanted, path: Path) -> None:
    file = of_config(path)
    try:
        file.unlink(missing_ok=True)
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as config:
            config.write(wanted.config)
    except OSError as error:
        raise cannot_be_written(file, error) from None


def _launch(wanted: Wanted, path: Path, note: StartRecord, lock: StartLock) -> None:
    interpreter = python()
    command = [
        interpreter,
        "-c",
        program("from broker.command import main; main()"),
        "serve",
        "--config",
        os.fspath(of_config(path)),
        "--name",
        os.fspath(path),
    ]
    command += ["--idle-seconds", repr(wanted.idle_seconds), "--start-lock", str(LOCK_FD)]
    environment = {key: value for key, value in os.environ.items() if key not in _OF_ANOTHER}
    try:
        log = above_standard(os.open(note.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise cannot_be_written(Path(note.log), error) from None
    try:
        pid = os.posix_spawn(
            interpreter,
            [interpreter, "-I", "-S", "-c", _LAUNCHER, os.fspath(path.parent), *command],
            {**environment, "PYTHONPATH": python_path()},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, lock.fd, LOCK_FD),
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsigmask=(),
            setsigdef=(
                signal.SIGCHLD,
                signal.SIGTERM,
                signal.SIGINT,
                signal.SIGHUP,
                signal.SIGIO,
                signal.SIGPIPE,
            ),
        )
    except OSError as error:
        raise BrokerError(f"the broker's process cannot be started: {error}") from None
    finally:
        os.close(log)
    _launchers.append(pid)


def _reap() -> None:
    for pid in list(_launchers):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # other code has waited for it, or it is our parent's child
            ended = True
        if ended:
            with contextlib.suppress(ValueError):  # another thread was faster
                _launchers.remove(pid)
