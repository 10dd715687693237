"""A wake-up that an event loop can wait for, set by any thread of either process.

It is a pipe, and no eventfd, since it has an inode by which the worker knows its descriptor again
(`system/descriptor.py`). Each side opens it for itself: a worker cannot make the broker's end block, and the broker
sees when nobody has the worker's end any more.

    broker   EventSource   write only   --->  pipe  --->   Event   read and write   worker
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from posix import read, write  # not os's, in place of which eventlet puts some that wait

from worker_client.system.descriptor import Descriptor
from worker_client.system.threads import Mutex

_SET = b"\1"
_MANY = 512  # sets that are taken back at a time
_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK


class Event:
    """The worker's end. Setting it twice wakes once; it tells nothing but that there is something to look at."""

    __slots__ = ("_descriptor", "_lock", "otherwise")

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self.otherwise: Callable[[], object] = lambda: None
        """Called in place of setting it if the descriptor was closed by somebody else."""
        self._lock = Mutex()  # so that no thread sets a descriptor that another has just closed

    @property
    def fd(self) -> int:
        return self._descriptor.fd

    @property
    def ours(self) -> bool:
        """False once it is closed, by us or by somebody who took the number for his."""
        return self._descriptor.ours

    @property
    def taken(self) -> bool:
        """Whoever listens to this number now is somebody else."""
        return self._descriptor.taken

    def set(self) -> None:
        with self._lock:
            ours = self.ours
            if ours:
                try:
                    write(self.fd, _SET)
                except BlockingIOError:
                    pass  # it is set, and by far
        if not ours:
            self.otherwise()

    def clear(self) -> bool:
        """False if it is not ours any more."""
        if not self.ours:
            return False
        try:
            read(self.fd, _MANY)
        except BlockingIOError:
            pass
        return True

    def close(self) -> None:
        self.otherwise = lambda: None
        with self._lock:
            self._descriptor.close()

    def after_fork_in_child(self) -> None:
        """Close without the lock: none of the threads that may hold it is here."""
        self._descriptor.close()


class EventSource:
    """The broker's end. Raises OSError where no descriptor is left, and without /proc."""

    __slots__ = ("_fd", "_lock")

    def __init__(self) -> None:
        read_end, self._fd = os.pipe2(_FLAGS)
        os.close(read_end)
        self._lock = threading.Lock()

    def set(self) -> bool:
        """False if the worker's end is closed: nobody was told."""
        with self._lock:
            if self._fd >= 0:
                try:
                    write(self._fd, _SET)
                except BlockingIOError:
                    pass
                except BrokenPipeError:
                    return False
        return True

    def lend(self) -> DuplicatedFd:
        """The worker's end, on its way there."""
        return DuplicatedFd(os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | _FLAGS))

    def close(self) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def __del__(self) -> None:
        self.close()


class DuplicatedFd:
    """A descriptor on its way to the other process."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def copy(cls, fd: int) -> DuplicatedFd:
        """A second descriptor of what `fd` is of."""
        return cls(os.dup(fd))

    def detach_fd(self) -> int:
        """The descriptor, now the caller's to close."""
        fd, self.fd = self.fd, -1
        return fd

    def close_fd(self) -> None:
        if self.fd >= 0:
            os.close(self.detach_fd())
