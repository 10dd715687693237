"""A wake-up that an event loop can wait for: an eventfd, set by any thread of either process."""

from __future__ import annotations

import os
import threading


class Event:
    """Owns `fd`. Setting it twice wakes once; it tells nothing but that there is something to look at."""

    __slots__ = ("_lock", "fd")

    def __init__(self, fd: int | None = None) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if fd is None else fd
        self._lock = threading.Lock()  # so that no thread sets a descriptor that another has just closed

    def set(self) -> None:
        with self._lock:
            if self.fd >= 0:
                try:
                    os.eventfd_write(self.fd, 1)
                except BlockingIOError:
                    pass  # it is set, and by far

    def clear(self) -> None:
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass

    def close(self) -> None:
        with self._lock:
            self.forget()

    def forget(self) -> None:
        """Close where no other thread sets it: in a child, which has none of those that may hold the lock."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.forget()


class Lent:
    """A second descriptor of what `fd` is of, on its way to the other process."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = os.dup(fd)

    def detach_fd(self) -> int:
        """The descriptor, now the caller's to close."""
        fd, self.fd = self.fd, -1
        return fd

    def close_fd(self) -> None:
        if self.fd >= 0:
            os.close(self.detach_fd())
