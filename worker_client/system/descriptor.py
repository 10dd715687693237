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
"""

from __future__ import annotations

import fcntl
import os
import socket

_FIRST = 3  # the numbers below are standard input, output and error, wherever somebody else writes
_NONE = -1


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
        ours = self.ours
        fd, self.fd = self.fd, _NONE
        if ours:
            os.close(fd)

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
        if self.ours:
            self.sock.close()
        elif self.sock.fileno() >= 0:
            self.sock.detach()  # or the collector would close the number

    def __del__(self) -> None:
        self.close()


def identity_of(fd: int) -> tuple[int, int] | None:
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
