"""One broker per address: the locks, the socket, and the sweep of files that a killed predecessor left.

A supervised broker's address belongs to the parent that restarts it: it takes the address, and each broker process
inherits locks and socket (`InheritedFds`). So no other broker can take the address between two broker processes, and
workers that attach then are not refused: the kernel keeps their connections for the next broker process. A broker
process removes socket and locks only if its parent died.

A cleaner of temporary files may remove socket and locks while the broker lives. The holder of the address checks them
regularly and creates them again (`restore`).
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from broker.control_plane import locks
from broker.host import system_calls
from broker.sharing.memory import sweep
from worker_client.interpreter import fork
from worker_client.ipc.directory import check_directory
from worker_client.system.clock import monotonic
from worker_client.system.descriptor import above_standard
from worker_client.wire.address import name_prefix, runtime_directory
from worker_client.wire.errors import BrokerError

_log = logging.getLogger("onesession.instance")

CHECK_SECONDS = 1.0
"""How often the holder of an address checks whether socket and locks still exist."""
_TOUCH_SECONDS = 3600.0  # cleaners go by age: they leave files that are younger than ten days, or more
_BACKLOG = 1024  # workers that may attach at the same time; the kernel's somaxconn bounds it


class InheritedFds(NamedTuple):
    """The descriptors that hold an address: its locks and its listening socket. `owner` is a pipe that ends with the
    process that owns the address."""

    lock: int
    names: int
    listener: int
    owner: int | None = None


class AddressLock:
    """The exclusive hold on an address. The kernel releases the locks when the process dies, however it dies."""

    def __init__(self, path: Path, inherited: InheritedFds | None = None) -> None:
        """Take the address, or take it over from our parent as `inherited`. From now on workers can connect.

        Raises BrokerError; locks.AlreadyRunning if a live broker has it.
        """
        system_calls.check()
        self.path = path
        self.prefix = name_prefix(path)
        self._lock, self._names, listener, self._owner = _take(path) if inherited is None else inherited
        self.listener = socket.socket(fileno=listener)
        self.listener.setblocking(False)
        for fd in (self._lock, self._names, listener):
            os.set_inheritable(fd, False)
        self._mark = -1
        self._directory = self._keep_directory()
        self._directory_mode = _mode_of_own(path.parent)
        self._socket = _identity(path)
        self._touched = monotonic()
        self._complaint = ""
        self._withdrawn = False
        sweep(self.prefix)
        self.note(os.getpid(), loading=True)
        fork.register(self, AddressLock.after_fork_in_child)

    @property
    def own_directory(self) -> bool:
        """Whether the socket is in the runtime directory, which belongs to the broker's user alone."""
        return self.path.parent == runtime_directory()

    @property
    def inherited(self) -> InheritedFds:
        """The descriptors that a broker process inherits: locks and listening socket."""
        return InheritedFds(self._lock, self._names, self.listener.fileno())

    def note(self, pid: int | None, loading: bool) -> None:
        """Write the pid that serves, or that will serve, into the locks' files; None while there is no such process."""
        locks.write_note((self._lock, self._names), pid, loading)

    def note_failure(self, why: str) -> None:
        """Record that the start has failed, just before the address is released."""
        locks.write_note((self._lock, self._names), os.getpid(), loading=True, failure=why)

    def mark_alive(self, name: Path) -> None:
        """Also hold a lock on one of our names: a sweep that finds the name cannot see the address, nor always our
        pid."""
        self._mark = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._mark, fcntl.LOCK_SH)

    def withdraw(self) -> None:
        """Remove the socket's path, so that no worker finds it. Workers that have connected still wait at `listener`;
        `restore` makes a new socket."""
        if _identity(self.path) == self._socket:
            self.path.unlink(missing_ok=True)
        self._withdrawn = True

    def restore(self) -> socket.socket | None:
        """Create socket and locks again if other programs removed them. If the socket was removed, returns the old
        listening socket, at which the last connections wait; the caller owns it. A failure is logged, and the next call
        tries again."""
        if self._is_whole():
            self._keep_young()
            return None
        try:
            before = self._make_again()
        except BrokerError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.critical(
                    "no worker can attach any more, and the address cannot be created again: %s", error
                )
            return None
        self._complaint = ""
        if not self._withdrawn:
            _log.warning("%s was removed by another program and has been created again", self.path)
        self._withdrawn = False
        return before

    def release(self) -> None:
        """Release the address and remove its files. A broker process leaves them to its parent."""
        self._unmark()
        self.listener.close()
        sweep(self.prefix)
        if not self._owner_lives():
            self._remove()
        self._close()

    def after_fork_in_child(self) -> None:
        """Release the locks and the socket, which belong to the parent."""
        self._unmark()
        if self._lock >= 0:
            self._close()
            self.listener.close()

    def _is_whole(self) -> bool:
        return (
            locks.holds(self._lock, locks.of_socket(self.path))
            and locks.holds(self._names, locks.of_names(self.path))
            and self._socket is not None
            and _identity(self.path) == self._socket
        )

    def _make_again(self) -> socket.socket | None:
        if self._directory_mode is not None:
            with suppress(OSError):
                self.path.parent.mkdir(self._directory_mode)
        check_directory(self.path.parent)
        self._lock_again(self._names, locks.of_names(self.path))
        self._lock_again(self._lock, locks.of_socket(self.path))
        note = locks.note_at(self.path)
        if note is not None:
            self.note(*note)
        _leave(self._directory)
        self._directory = self._keep_directory()
        if self._socket is not None and _identity(self.path) == self._socket:
            return None
        _unlink(self.path)
        listener, before = socket.socket(fileno=_listen(self.path)), self.listener
        listener.setblocking(False)
        self.listener, self._socket = listener, _identity(self.path)
        return before

    def _lock_again(self, fd: int, lock: Path) -> None:
        """Take the lock again under the same descriptor number if its file was removed or replaced."""
        if locks.holds(fd, lock):
            return
        note = os.pread(fd, 64, 0)
        new = locks.take(lock, self.path)
        os.pwrite(new, note, 0)
        os.dup2(new, fd, inheritable=False)
        os.close(new)

    def _keep_young(self) -> None:
        if monotonic() - self._touched >= _TOUCH_SECONDS:
            self._touched = monotonic()
            for path in (self.path, locks.of_socket(self.path), locks.of_names(self.path)):
                with suppress(OSError):
                    os.utime(path)

    def _keep_directory(self) -> int:
        """Hold a lock on our directory: systemd-tmpfiles skips locked directories."""
        if not self.own_directory:
            return -1
        try:
            fd = above_standard(os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            return -1
        with suppress(OSError):  # a cleaner has locked it at this moment
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return fd

    def _remove(self) -> None:
        """Remove socket and locks if they are ours: a broker process may have created them again after our last
        check."""
        if not locks.is_current(self._lock, locks.of_socket(self.path)):
            try:
                self._lock_again(self._lock, locks.of_socket(self.path))
            except BrokerError:  # it belongs to another broker now, or the directory does not exist
                return self._remove_lock_of_names()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            locks.of_socket(self.path).unlink(missing_ok=True)
        return self._remove_lock_of_names()

    def _remove_lock_of_names(self) -> None:
        if locks.is_current(self._names, locks.of_names(self.path)):
            locks.of_names(self.path).unlink(missing_ok=True)

    def _close(self) -> None:
        _leave(self._directory)
        fds, self._lock, self._names, self._directory = (self._lock, self._names), -1, -1, -1
        for fd in fds:
            os.close(fd)

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


def _take(path: Path) -> InheritedFds:
    check_directory(path.parent)
    if path.exists() and not path.is_socket():
        raise BrokerError(
            f"{path} exists and is not a socket; move it away, or give the broker another name (--name)"
        )
    taken: list[Path] = []
    fds: list[int] = []
    try:
        fds.append(above_standard(locks.take_names(path)))
        if locks.is_current(fds[0], locks.of_names(path)):
            taken.append(locks.of_names(path))
        fds.append(above_standard(locks.take(locks.of_socket(path), path)))
        taken.append(locks.of_socket(path))
        _unlink(path)
        return InheritedFds(fds[1], fds[0], _listen(path))
    except BaseException:
        for lock in taken:
            lock.unlink(missing_ok=True)
        for fd in fds:
            os.close(fd)
        raise


def _mode_of_own(directory: Path) -> int | None:
    """The directory's mode; None if it belongs to another user, because we could not create it again as it was."""
    try:
        found = directory.stat()
    except OSError:
        return None
    return stat.S_IMODE(found.st_mode) if found.st_uid == os.geteuid() else None


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a socket, to recognise it later."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


def _leave(directory: int) -> None:
    if directory >= 0:
        os.close(directory)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BrokerError(
            f"{path}, which a dead broker left, cannot be removed ({error.strerror}): "
            "remove it as the user it belongs to, or give the broker another name (--name)"
        ) from None


def _listen(path: Path) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        os.fchmod(listener.fileno(), 0o600)  # applies to the file; umask would affect the process
        try:
            listener.bind(os.fspath(path))
        except OSError as error:
            raise BrokerError(
                f"no socket can be created at {path} ({error.strerror}); give the broker a --name in a "
                "directory "
                "on a local file system, such as a tmpfs"
            ) from None
        listener.listen(_BACKLOG)
        return above_standard(listener.detach())
