"""One broker per address: the lock, the socket, and the sweep of what a killed predecessor left."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from pathlib import Path

from broker.memory import sweep
from worker_client.wire.address import name_prefix, runtime_directory
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
            raise BrokerError(f"{path} exists and is no socket; give the broker another --name")
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock = self._take_lock()
        self.swept = sweep(self.prefix)
        path.unlink(missing_ok=True)

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
        finally:
            os.umask(umask)
        self.listener.listen(_BACKLOG)
        return self.listener

    def release(self) -> None:
        """Give the address up; nothing of it stays on disk."""
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
        os.close(self._lock)

    def _take_lock(self) -> int:
        while True:
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._lock_path))
        except FileNotFoundError:
            return False


def _check_directory(directory: Path) -> None:
    """The runtime directory is made; any other must exist. Others must not be able to put their socket there."""
    if directory == runtime_directory():
        directory.mkdir(mode=0o700, exist_ok=True)
    try:
        found = directory.stat()
    except FileNotFoundError:
        raise BrokerError(
            f"directory {directory} for the broker's socket does not exist; make it first"
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise BrokerError(f"{directory}, where the broker's socket shall be, is no directory")
    if directory == runtime_directory() and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        raise BrokerError(
            f"{directory} belongs to uid {found.st_uid} or may be written by others: not safe to use"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise BrokerError(
            f"directory {directory} for the broker's socket may not be written by uid {os.geteuid()}"
        )
