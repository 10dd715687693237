"""One broker per address: the lock, the socket, and the sweep of what a killed predecessor left.

A supervised broker's address belongs to the parent that restarts it: it takes the address, and each engine inherits
lock and socket (`Held`). So nobody else can take it while the engine is away, and workers that attach then are not
refused: the kernel keeps their connections for the next engine. An engine gives the address up only if its parent died.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
import weakref
from pathlib import Path
from typing import NamedTuple

from broker.memory import sweep
from worker_client.wire.address import VARIABLE, name_prefix, runtime_directory
from worker_client.wire.errors import BrokerError

_BACKLOG = 1024  # workers that may attach at the same time; the kernel's somaxconn bounds it

_instances: weakref.WeakSet[Instance] = weakref.WeakSet()


class AlreadyRunning(BrokerError):
    """Another live broker has this address."""


class Held(NamedTuple):
    """The descriptors that hold an address. `owner` is a pipe that ends with the process whose address it is."""

    lock: int
    listener: int
    owner: int | None = None


class Instance:
    """The exclusive hold on an address. The kernel gives the lock back when the process dies, however it dies."""

    def __init__(self, path: Path, held: Held | None = None) -> None:
        """Take the address, or take it over as `held` by our parent. From now on workers can connect.

        Raises BrokerError; AlreadyRunning if a live broker has it.
        """
        self.path = path
        self.prefix = name_prefix(path)
        self._lock, listener, self._owner = _take(path) if held is None else held
        self.listener = socket.socket(fileno=listener)
        self.listener.setblocking(False)
        for fd in (self._lock, listener):
            os.set_inheritable(fd, False)
        self._mark = -1
        self.swept = _swept(self.prefix, self._lock)
        self.note(os.getpid(), loading=True)
        _instances.add(self)

    @property
    def own_directory(self) -> bool:
        """The socket stands in the runtime directory, which is the broker's user's alone."""
        return self.path.parent == runtime_directory()

    @property
    def held(self) -> Held:
        """What an engine inherits: lock and listening socket."""
        return Held(self._lock, self.listener.fileno())

    def note(self, pid: int | None, loading: bool) -> None:
        """Write into the lock's file who serves or will; None while there is no such process."""
        text = f"{pid or 0}{' loading' if loading else ''}\n".encode()
        os.pwrite(self._lock, text, 0)
        os.truncate(self._lock, len(text))

    def mark_alive(self, name: Path) -> None:
        """Hold a lock on one of our names, too: who finds them knows nothing of the address, and maybe of our pid."""
        self._mark = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._mark, fcntl.LOCK_SH)

    def release(self) -> None:
        """Give the address up; nothing of it stays on disk. An engine leaves it to its parent."""
        self._unmark()
        self.listener.close()
        sweep(self.prefix)
        if not self._owner_lives() and _is_current(self._lock, self.path):
            self.path.unlink(missing_ok=True)
            _lock_path(self.path).unlink(missing_ok=True)
        lock, self._lock = self._lock, -1
        os.close(lock)

    def forget(self) -> None:
        """In a forked child: hold neither the lock nor the socket, which are the parent's."""
        self._unmark()
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)
            self.listener.close()

    def _unmark(self) -> None:
        fd, self._mark = self._mark, -1
        if fd >= 0:
            os.close(fd)

    def _owner_lives(self) -> bool:
        if self._owner is None:
            return False
        poll = select.poll()
        poll.register(self._owner, select.POLLIN)
        return not poll.poll(0)


def _forget_all() -> None:
    for instance in list(_instances):
        instance.forget()


os.register_at_fork(after_in_child=_forget_all)


class Note(NamedTuple):
    """What the holder of an address has noted. `pid` is None while a supervised broker is about to be started."""

    pid: int | None
    loading: bool


def note_at(path: Path) -> Note | None:
    """What is noted at an address, by a broker that may be dead."""
    try:
        return _parse(_lock_path(path).read_text())
    except OSError:
        return None


def _parse(text: str) -> Note | None:
    pid, _, state = text.strip().partition(" ")
    return Note(int(pid) or None, state == "loading") if pid.isdigit() else None


def _take(path: Path) -> Held:
    _check_directory(path.parent)
    if path.exists() and not path.is_socket():
        raise BrokerError(f"{path} exists and is no socket; move it away, or give the broker another --name")
    lock = _take_lock(path)
    try:
        _unlink(path)
        return Held(lock, _listen(path))
    except BaseException:
        _lock_path(path).unlink(missing_ok=True)
        os.close(lock)
        raise


def _swept(prefix: str, lock: int) -> list[str]:
    try:
        return sweep(prefix)
    except OSError as error:
        os.close(lock)
        raise _cannot_be_removed(error) from None


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_be_removed(error) from None


def _cannot_be_removed(error: OSError) -> BrokerError:
    return BrokerError(
        f"{error.filename}, which a dead broker left, cannot be removed ({error.strerror}): "
        "remove it as the user it belongs to, or give the broker another --name"
    )


def _listen(path: Path) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        umask = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
        except OSError as error:
            raise BrokerError(
                f"no socket can be made at {path} ({error.strerror}); give the broker a --name in a directory "
                "on a local file system, such as a tmpfs"
            ) from None
        finally:
            os.umask(umask)
        listener.listen(_BACKLOG)
        return listener.detach()


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _take_lock(path: Path) -> int:
    while True:
        fd = _open_lock(_lock_path(path))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note = _parse(os.pread(fd, 32, 0).decode("ascii", "replace"))
            os.close(fd)
            whose = f"pid {note.pid}" if note is not None and note.pid is not None else "just being started"
            raise AlreadyRunning(
                f"a broker ({whose}) already serves {path}; stop it, or give this one another --name"
            ) from None
        if _is_current(fd, path):
            return fd
        os.close(fd)  # its holder removed the file while we waited for it


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BrokerError(
            f"the lock {path} cannot be opened by uid {os.geteuid()} ({error.strerror}): it is another "
            "user's, or its file system is read-only; give the broker another --name"
        ) from None


def _is_current(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), os.stat(_lock_path(path)))
    except FileNotFoundError:
        return False


def _check_directory(directory: Path) -> None:
    """The runtime directory is made; any other must exist. Others must not be able to put their socket there."""
    ours = directory == runtime_directory()
    if ours:
        _make(directory)
    try:
        found = directory.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise BrokerError(
            f"directory {directory} for the broker's socket does not exist; make it first (mkdir -m 700 {directory}), "
            "or give the broker another --name"
        ) from None
    except PermissionError:
        raise BrokerError(
            f"directory {directory} for the broker's socket is out of reach of uid {os.geteuid()}: a directory above "
            "it may not be entered; give the broker another --name"
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise BrokerError(f"{directory}, where the broker's socket shall be, is no directory")
    if ours and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        raise BrokerError(
            f"{directory} belongs to uid {found.st_uid} (mode {stat.S_IMODE(found.st_mode):04o}), this broker to uid "
            f"{os.geteuid()}: it must be its own, and nobody else may write there (chmod go-w). Or give --name the "
            f"path of a socket in a directory of its own, and {VARIABLE} the same"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise BrokerError(
            f"directory {directory} for the broker's socket may not be written by uid {os.geteuid()}; it belongs to "
            f"uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}"
        )


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:  # something else is there, which is told next
        pass
    except OSError as error:
        raise BrokerError(
            f"directory {directory} for the broker's socket cannot be made ({error.strerror}); make it for uid "
            f"{os.geteuid()}, or give --name the path of a socket elsewhere and {VARIABLE} the same"
        ) from None
