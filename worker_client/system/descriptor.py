"""Descriptors that an app may close under us, and whose numbers it then gets for files of its own.

A daemon that closes "all" descriptors (`os.closerange`, python-daemon), or an app that closes one of its own twice,
closes ours as well, and the kernel gives the number to whatever is opened next. A byte that we write to wake ourselves
would then go into the app's file, and our `close` would close it. So the number alone is never believed: what it leads
to is remembered when it is made (device and inode), and compared right before each read, write or close.

That is why all that we keep are sockets and pipes, each of which has an inode of its own: eventfds share one among all
of them. The other ways were worse: kcmp(2) wants a permission that containers do not give, /proc/self/fdinfo a mounted
/proc and three system calls, and a high number is closed all the same by a loop up to the limit.

The look is one fstat(2), about a microsecond. A call of the sync client touches no descriptor, so it pays nothing. What
is not seen is a thread that closes and opens in the very moment between look and use.

That moment comes when an app closes all descriptors one by one: our watcher wakes at the first of them, ends, and would
close the others while the app is still at it. So whoever finds a descriptor closed by somebody else closes none itself
(`left_to_callers`). Those that are still ours afterwards are closed by the next call that attaches or closes the
client, on a thread that does nothing else meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
from collections.abc import Iterator

_FIRST = 3  # the numbers below are standard input, output and error, wherever somebody else writes
_NONE = -1

Identity = tuple[int, int]

_closing_nothing: set[int] = set()  # threads
_left: list[tuple[int, Identity]] = []


@contextlib.contextmanager
def left_to_callers() -> Iterator[None]:
    """What the block closes on this thread stays open until `close_left`."""
    thread = threading.get_ident()
    _closing_nothing.add(thread)
    try:
        yield
    finally:
        _closing_nothing.discard(thread)


def close_left() -> None:
    """Close what was left and is ours still."""
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
    with contextlib.suppress(OSError):  # somebody has just closed it
        os.close(fd)


class Descriptor:
    """Owns a number for as long as it leads to what it led to when this was made. It is above 2."""

    __slots__ = ("__weakref__", "_identity", "fd")

    def __init__(self, fd: int) -> None:
        """`fd` is ours from now on; -1 for one that never came. Raises OSError."""
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
        """The number may be somebody else's: it leads to something that is not ours, or we have closed it ourselves."""
        return self.fd < 0 or identity_of(self.fd) not in (None, self._identity)

    @property
    def missing(self) -> bool:
        """It never came, for want of a free number."""
        return self._identity is None

    def close(self) -> None:
        """Close it, unless it is closed, or somebody else's by now."""
        fd, self.fd = self.fd, _NONE
        _close(fd, self._identity)

    def __del__(self) -> None:
        self.close()


class OwnSocket:
    """A socket that touches its number only as long as that is its own: `sock` may be used while `ours`."""

    __slots__ = ("__weakref__", "_identity", "sock")

    def __init__(self, sock: socket.socket) -> None:
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
            self.sock.detach()  # or the collector would close the number
        elif threading.get_ident() in _closing_nothing:
            _close(self.sock.detach(), self._identity)
        else:
            with contextlib.suppress(OSError):  # somebody has just closed it
                self.sock.close()

    def __del__(self) -> None:
        self.close()


def identity_of(fd: int) -> Identity | None:
    """What a number leads to now; None if to nothing."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def above_standard(fd: int) -> int:
    """The same under a number above 2; `fd` itself is closed if it has to move. Raises OSError."""
    if not 0 <= fd < _FIRST:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST)
    finally:
        os.close(fd)


def new_pipe() -> tuple[Descriptor, Descriptor]:
    """Its read and its write end, which block nobody. Raises OSError."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        first = Descriptor(read_end)
    except BaseException:
        os.close(write_end)
        raise
    return first, Descriptor(write_end)
