"""Descriptors that an app may close, and whose numbers it may then reuse for its own files.

A daemon that closes "all" descriptors (`os.closerange`, python-daemon), or an app that closes one of its own twice,
closes ours as well, and the kernel gives the number to whatever is opened next. A byte that we write to wake a thread
would then go into the app's file, and our `close` would close it. So the number alone is never trusted: the device and
inode behind it are stored when the descriptor is made, and compared right before each read, write or close.

For that reason we keep only sockets and pipes, each of which has its own inode; all eventfds share one. The
alternatives were worse: kcmp(2) needs a permission that containers do not give, /proc/self/fdinfo needs a mounted /proc
and three system calls, and a loop up to the limit closes high numbers as well.

The check is one fstat(2), about a microsecond. A call of the sync client touches no descriptor, so it pays nothing. The
check misses a thread that closes and opens just between check and use.

That can happen when an app closes all descriptors one by one: our watcher wakes at the first of them, ends, and would
close the others while the app is still closing. So a thread that finds a descriptor closed by other code closes none
itself (`left_to_callers`). The next call that attaches or closes the client closes those that are still ours, on its
own thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
from collections.abc import Iterator

_FIRST = 3  # the numbers below are standard input, output and error, which other code writes to
_NONE = -1

Identity = tuple[int, int]

_closing_nothing: set[int] = set()  # ids of threads
_left: list[tuple[int, Identity]] = []


@contextlib.contextmanager
def left_to_callers() -> Iterator[None]:
    """Descriptors that the block closes on this thread stay open until `close_left`."""
    thread = threading.get_ident()
    _closing_nothing.add(thread)
    try:
        yield
    finally:
        _closing_nothing.discard(thread)


def close_left() -> None:
    """Close the descriptors that were left open and are still ours."""
    while _left:
        try:
            fd, identity = _left.pop()
        except IndexError:  # another thread was faster
            return
        _close(fd, identity)


def _close(fd: int, identity: Identity | None) -> None:
    if fd < 0 or identity is None or identity_of(fd) != identity:
        return
    if threading.get_ident() in _closing_nothing:
        _left.append((fd, identity))
        return
    with contextlib.suppress(OSError):  # other code has just closed it
        os.close(fd)


class Descriptor:
    """A descriptor number above 2, owned as long as it refers to the same file as when this object was made."""

    __slots__ = ("__weakref__", "_identity", "fd")

    def __init__(self, fd: int) -> None:
        """Take ownership of `fd`; -1 stands for a descriptor that did not arrive. Raises OSError."""
        self.fd = _NONE
        self.fd = above_standard(fd)
        self._identity = identity_of(self.fd)

    def __repr__(self) -> str:
        return f"<Descriptor {self.fd}{'' if self.ours else ', not ours any more'}>"

    @property
    def ours(self) -> bool:
        return self.fd >= 0 and identity_of(self.fd) == self._identity

    @property
    def taken(self) -> bool:
        """Whether other code may use the number: it refers to another file, or we have closed it ourselves."""
        return self.fd < 0 or identity_of(self.fd) not in (None, self._identity)

    @property
    def missing(self) -> bool:
        """Whether it did not arrive, because no number was free."""
        return self._identity is None

    def close(self) -> None:
        """Close it, unless it is closed or other code uses the number by now."""
        fd, self.fd = self.fd, _NONE
        _close(fd, self._identity)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # a signal handler raised before it was made
            self.close()


class OwnSocket:
    """A socket that uses its number only as long as it owns it: `sock` may be used while `ours`."""

    __slots__ = ("__weakref__", "_identity", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self._identity = sock, None
        if 0 <= sock.fileno() < _FIRST:
            sock = socket.socket(fileno=above_standard(sock.detach()))
        self.sock = sock
        self._identity = identity_of(sock.fileno())

    @property
    def ours(self) -> bool:
        fd = self.sock.fileno()
        return fd >= 0 and identity_of(fd) == self._identity

    def close(self) -> None:
        if not self.ours:
            self.sock.detach()  # otherwise the garbage collector would close the number
        elif threading.get_ident() in _closing_nothing:
            _close(self.sock.detach(), self._identity)
        else:
            with contextlib.suppress(OSError):  # other code has just closed it
                self.sock.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # a signal handler raised before it was made
            self.close()


def identity_of(fd: int) -> Identity | None:
    """Device and inode of the file behind a number; None if there is none."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def above_standard(fd: int) -> int:
    """The same file under a number above 2; `fd` itself is closed if the number changes. Raises OSError."""
    if not 0 <= fd < _FIRST:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST)
    finally:
        os.close(fd)


def new_pipe() -> tuple[Descriptor, Descriptor]:
    """The read end and the write end of a new non-blocking pipe. Raises OSError."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        first = Descriptor(read_end)
    except BaseException:
        os.close(write_end)
        raise
    return first, Descriptor(write_end)
