"""One broker per address: the lock, the socket, and the sweep of what a killed predecessor left."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from pathlib import Path

from broker.memory import sweep
from worker_client.wire.address import VARIABLE, name_prefix, runtime_directory
from worker_client.wire.errors import BrokerError

_BACKLOG = 1024  # workers that may attach at the same time; the kernel's somaxconn bounds it


class AlreadyRunning(BrokerError):
    """Another live broker has this address."""


class Instance:
    """The exclusive hold on an address. The kernel gives the lock back when the process dies, however it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.prefix = name_prefix(path)
        self.listener: socket.socket | None = None
        _check_directory(path.parent)
        if path.exists() and not path.is_socket():
            raise BrokerError(
                f"{path} exists and is no socket; move it away, or give the broker another --name"
            )
        self._mark = -1
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock = self._take_lock()
        try:
            self.swept = sweep(self.prefix)
            path.unlink(missing_ok=True)
        except OSError as error:
            os.close(self._lock)
            raise BrokerError(
                f"{error.filename}, which a dead broker left, cannot be removed ({error.strerror}): "
                "remove it as the user it belongs to, or give the broker another --name"
            ) from None

    @property
    def own_directory(self) -> bool:
        """The socket stands in the runtime directory, which is the broker's user's alone."""
        return self.path.parent == runtime_directory()

    def listen(self) -> socket.socket:
        """From now on workers find the broker."""
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        umask = os.umask(0o177)
        try:
            self.listener.bind(os.fspath(self.path))
        except OSError as error:
            self.listener.close()
            raise BrokerError(
                f"no socket can be made at {self.path} ({error.strerror}); give the broker a --name in a directory "
                "on a local file system, such as a tmpfs"
            ) from None
        finally:
            os.umask(umask)
        self.listener.listen(_BACKLOG)
        return self.listener

    def mark_alive(self, name: Path) -> None:
        """Hold a lock on one of our names, too: who finds them knows nothing of the address, and maybe of our pid."""
        self._mark = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._mark, fcntl.LOCK_SH)

    def release(self) -> None:
        """Give the address up; nothing of it stays on disk."""
        self._unmark()
        if self.listener is not None:
            self.listener.close()
            self.path.unlink(missing_ok=True)
        sweep(self.prefix)
        self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)

    def forget(self) -> None:
        """In a forked child: hold neither the lock nor the socket, which are the parent's."""
        if self.listener is not None:
            self.listener.close()
        self._unmark()
        os.close(self._lock)

    def _unmark(self) -> None:
        fd, self._mark = self._mark, -1
        if fd >= 0:
            os.close(fd)

    def _take_lock(self) -> int:
        while True:
            fd = self._open_lock()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(fd)
                raise AlreadyRunning(
                    f"a broker (pid {pid}) already serves {self.path}; stop it, or give this one another --name"
                ) from None
            if self._is_current(fd):
                os.truncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return fd
            os.close(fd)  # its holder removed the file while we waited for it

    def _open_lock(self) -> int:
        try:
            return os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise BrokerError(
                f"the lock {self._lock_path} cannot be opened by uid {os.geteuid()} ({error.strerror}): it is another "
                "user's, or its file system is read-only; give the broker another --name"
            ) from None

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._lock_path))
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
