"""The two locks of an address, and the note that their holder writes into them.

    SOCKET.lock, beside the socket                 visible to all that can reach the socket, in any container
    /dev/shm/onesession-DIGEST.lock                beside the names that an address stands for

Each is a file under flock(2), which the kernel releases however its holder dies. One lock would do, but cleaners of
temporary files (tmpreaper, systemd-tmpfiles, rm) remove files beside the socket, and logind's RemoveIPC removes files
in /dev/shm when a user logs out. A broker that takes an address needs both locks, so two brokers can have one address
only if both files were lost.

Any user can compute the second name and create a file there before us. Another user's file does not prevent a start:
then the first lock is the only one until that file is gone.
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
    """The note of the holder of an address: `PID`, `PID loading`, or, just before the holder ends, `PID failed` with
    the reason in the lines that follow. `pid` is None while a supervised broker is about to be started."""

    pid: int | None
    loading: bool


def of_socket(path: Path) -> Path:
    """The lock beside the socket at `path`."""
    return path.with_name(path.name + ".lock")


def of_names(path: Path) -> Path:
    """The lock beside the names of the broker at `path`; a sweep of the names (`memory.sweep`) leaves it out."""
    return _SHM / f"{name_prefix(path).strip('/.').replace('.', '-')}.lock"


def note_at(path: Path) -> LockRecord | None:
    """The note at an address, written by a broker that may be dead."""
    for lock in (of_socket(path), of_names(path)):
        try:
            if lock.parent == _SHM and os.lstat(lock).st_uid not in (0, os.geteuid()):
                continue
            return _parse(lock.read_text())
        except OSError:
            pass
    return None


def write_note(locks: tuple[int, int], pid: int | None, loading: bool, failure: str = "") -> None:
    """Write the note. `failure` is the reason why the broker could not start; a process that waits for the start reads
    it before the file is removed."""
    state = f" {_FAILED}\n{failure}" if failure else f" {_LOADING}" if loading else ""
    text = f"{pid or 0}{state}\n".encode(errors="replace")[:NOTE_BYTES]
    for lock in locks:
        with contextlib.suppress(OSError):  # a full /dev/shm, or disk: the lock holds without a note
            os.pwrite(lock, text, 0)
            os.truncate(lock, len(text))


def holder(path: Path) -> int | None:
    """The pid of the process that holds the address, as far as it is visible here. Takes no lock itself: a broker that
    starts at this moment would mistake us for another broker."""
    note = note_at(path)
    if note is None or note.pid is None or not processes.exists(note.pid):
        return None
    return note.pid if any(map(is_held, (of_socket(path), of_names(path)))) else None


def take_names(path: Path) -> int:
    """Take the lock beside the names; if another user has the file, return a descriptor that takes notes only."""
    lock = of_names(path)
    try:
        if not _is_anothers(lock):
            return take(lock, path)
    except BrokerError:
        if not _is_anothers(lock):  # the other user's file may have appeared just now
            raise
    return os.memfd_create("onesession-lock")


def holds(fd: int, lock: Path) -> bool:
    """Whether the lock need not be taken again: other processes would find the file that we hold, or it cannot be
    ours."""
    return is_current(fd, lock) or (lock.parent == _SHM and _is_anothers(lock))


def _is_anothers(lock: Path) -> bool:
    try:
        return os.lstat(lock).st_uid != os.geteuid()
    except OSError:
        return False


def take(lock: Path, path: Path) -> int:
    """Take this lock of the address `path`, and return its descriptor. Raises AlreadyRunning, BrokerError."""
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
    """Whether other processes would find the file that we hold."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(lock))
    except OSError:
        return False


def _already_running(path: Path, note: LockRecord | None) -> AlreadyRunning:
    whose = f"pid {note.pid}" if note is not None and note.pid is not None else "just being started"
    removed = "" if of_socket(path).exists() else ", though its socket has been removed"
    remedy = "stop it, or give this one another name (--name)"
    if note is not None and note.pid == os.getpid():
        remedy = (
            "stop it first, a Broker of this program: call its stop() (a notebook that has lost it needs another "
            "kernel), or give this one another name=..."
        )
    return AlreadyRunning(f"a broker ({whose}) already serves {path}{removed}; {remedy}")


def _open(path: Path) -> int:
    try:
        return open_lock(path)
    except OSError as error:
        raise _cannot_be_opened(path, error) from None


def _cannot_be_opened(path: Path, error: OSError) -> BrokerError:
    if path.parent == _SHM and (why := shm.why_not(error)):
        return BrokerError(why)
    return BrokerError(
        f"the lock {path} cannot be opened by uid {os.geteuid()} ({error.strerror}): it belongs to another "
        "user, or its file system is read-only or full; give the broker another name (--name)"
    )


def _parse(text: str) -> LockRecord | None:
    pid, _, state = text.strip().partition(" ")
    return LockRecord(int(pid) or None, state != "") if pid.isdigit() else None


def is_loading(text: str) -> bool:
    """Whether this is the note of a broker that is still loading its models."""
    note = _parse(text)
    return note is not None and note.loading


def failure_in(text: str) -> str:
    """Why the broker that wrote this note could not start; "" if the note gives no failure."""
    first, _, failure = text.strip().partition("\n")
    return failure if first.endswith(f" {_FAILED}") else ""
