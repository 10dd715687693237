"""The two locks of an address, and what their holder notes in them.

    SOCKET.lock, beside the socket                 whoever can reach the socket sees it, in whichever container
    /dev/shm/onesession-DIGEST.lock                beside the names that an address stands for

Each is a file under flock(2), which the kernel gives back however its holder dies. One would do, but files beside the
socket are removed by cleaners of temporary files (tmpreaper, systemd-tmpfiles, rm), and those in /dev/shm when a user
logs out (logind's RemoveIPC): who takes an address needs both, so it takes the loss of both to have two brokers at one.

Anybody can compute the second name and put a file there before us. Another user's is no reason to stop: then the first
lock is the only one, until that file is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from broker.host import processes
from worker_client.system import shm
from worker_client.system.held import is_held, open_lock
from worker_client.wire.address import name_prefix
from worker_client.wire.errors import BrokerError

_SHM = shm.FOLDER


class AlreadyRunning(BrokerError):
    """Another live broker has this address."""


NOTE_BYTES = 4096
_LOADING, _FAILED = "loading", "failed"


class LockRecord(NamedTuple):
    """What the holder of an address has noted: `PID`, `PID loading`, or `PID failed` and why in the lines that follow,
    just before it ends. `pid` is None while a supervised broker is about to be started."""

    pid: int | None
    loading: bool


def of_socket(path: Path) -> Path:
    """The lock beside the socket at `path`."""
    return path.with_name(path.name + ".lock")


def of_names(path: Path) -> Path:
    """The lock beside the names of the broker at `path`; a sweep of those (`memory.sweep`) leaves it out."""
    return _SHM / f"{name_prefix(path).strip('/.').replace('.', '-')}.lock"


def note_at(path: Path) -> LockRecord | None:
    """What is noted at an address, by a broker that may be dead."""
    for lock in (of_socket(path), of_names(path)):
        try:
            if lock.parent == _SHM and os.lstat(lock).st_uid not in (0, os.geteuid()):
                continue
            return _parse(lock.read_text())
        except OSError:
            pass
    return None


def write_note(locks: tuple[int, int], pid: int | None, loading: bool, failure: str = "") -> None:
    """`failure` is why it could not start; who waits for it reads that before the file is gone."""
    state = f" {_FAILED}\n{failure}" if failure else f" {_LOADING}" if loading else ""
    text = f"{pid or 0}{state}\n".encode(errors="replace")[:NOTE_BYTES]
    for lock in locks:
        with contextlib.suppress(OSError):  # a full /dev/shm, or disk: the lock holds without a note
            os.pwrite(lock, text, 0)
            os.truncate(lock, len(text))


def holder(path: Path) -> int | None:
    """The process that has the address, as far as it can be seen from here. Takes no lock itself: a broker that
    starts at this moment would take us for another."""
    note = note_at(path)
    if note is None or note.pid is None or not processes.exists(note.pid):
        return None
    return note.pid if any(map(is_held, (of_socket(path), of_names(path)))) else None


def take_names(path: Path) -> int:
    """Take the lock beside the names; in place of another user's file something to write a note into."""
    lock = of_names(path)
    try:
        if not _is_anothers(lock):
            return take(lock, path)
    except BrokerError:
        if not _is_anothers(lock):  # it may have come just now
            raise
    return os.memfd_create("onesession-lock")


def holds(fd: int, lock: Path) -> bool:
    """Whether there is nothing to take again: what we hold is what others would find, or it cannot be ours."""
    return is_current(fd, lock) or (lock.parent == _SHM and _is_anothers(lock))


def _is_anothers(lock: Path) -> bool:
    try:
        return os.lstat(lock).st_uid != os.geteuid()
    except OSError:
        return False


def take(lock: Path, path: Path) -> int:
    """Take this lock of the address `path`; its descriptor. Raises AlreadyRunning, BrokerError."""
    while True:
        fd = _open(lock)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note = _parse(os.pread(fd, 32, 0).decode("ascii", "replace"))
            os.close(fd)
            raise _already_running(path, note) from None
        if is_current(fd, lock):
            return fd
        os.close(fd)  # its holder removed the file while we waited for it


def is_current(fd: int, lock: Path) -> bool:
    """Whether what we hold is what others would find."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(lock))
    except OSError:
        return False


def _already_running(path: Path, note: LockRecord | None) -> AlreadyRunning:
    whose = f"pid {note.pid}" if note is not None and note.pid is not None else "just being started"
    removed = "" if of_socket(path).exists() else ", though its socket has been removed"
    return AlreadyRunning(
        f"a broker ({whose}) already serves {path}{removed}; stop it, or give this one another --name"
    )


def _open(path: Path) -> int:
    try:
        return open_lock(path)
    except OSError as error:
        raise _cannot_be_opened(path, error) from None


def _cannot_be_opened(path: Path, error: OSError) -> BrokerError:
    if path.parent == _SHM and (why := shm.why_not(error)):
        return BrokerError(why)
    return BrokerError(
        f"the lock {path} cannot be opened by uid {os.geteuid()} ({error.strerror}): it is another "
        "user's, or its file system is read-only or full; give the broker another --name"
    )


def _parse(text: str) -> LockRecord | None:
    pid, _, state = text.strip().partition(" ")
    return LockRecord(int(pid) or None, state != "") if pid.isdigit() else None


def is_loading(text: str) -> bool:
    """Whether a broker has noted this that had not loaded its models."""
    note = _parse(text)
    return note is not None and note.loading


def failure_in(text: str) -> str:
    """Why the broker that has noted this could not start; "" if it has not said so."""
    first, _, failure = text.strip().partition("\n")
    return failure if first.endswith(f" {_FAILED}") else ""
