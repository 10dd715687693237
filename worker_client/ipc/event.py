"""A wake-up that an event loop can wait for, set by any thread of either process.

It is a pipe, not an eventfd, because a pipe has an inode by which the worker recognises its descriptor
(`system/descriptor.py`). Each side opens it separately: a worker cannot make the broker's end block, and the broker
notices when no process has the worker's end open.

    broker   EventSource   write only   --->  pipe  --->   Event   read and write   worker
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from posix import read, write  # not os's, in place of which eventlet puts some that wait

from worker_client.interpreter.threads import Mutex
from worker_client.system.descriptor import Descriptor

_SET = b"\1"
_MANY = 512  # how many sets one read clears
_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK


class Event:
    """The worker's end. Setting it twice wakes once; it only says that there is something to check."""

    __slots__ = ("_descriptor", "_lock", "otherwise")

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self.otherwise: Callable[[], object] = lambda: None
        """Called instead of setting the event if other code closed the descriptor."""
        self._lock = Mutex()  # so that no thread sets a descriptor that another has just closed

    @property
    def fd(self) -> int:
        return self._descriptor.fd

    @property
    def ours(self) -> bool:
        """False once the descriptor is closed, by us or by other code."""
        return self._descriptor.ours

    @property
    def taken(self) -> bool:
        """Whether other code uses this number now."""
        return self._descriptor.taken

    def set(self) -> None:
        with self._lock:
            ours = self.ours
            if ours:
                try:
                    write(self.fd, _SET)
                except BlockingIOError:
                    pass  # the pipe is full, so the event is set
        if not ours:
            self.otherwise()

    def clear(self) -> bool:
        """Unset the event. False if the descriptor is no longer ours."""
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
        """Close without the lock, because no thread that may hold it exists in the child."""
        self._descriptor.close()


class EventSource:
    """The broker's end. Raises OSError if no descriptor is left, or if there is no /proc."""

    __slots__ = ("_fd", "_lock")

    def __init__(self) -> None:
        read_end, self._fd = os.pipe2(_FLAGS)
        os.close(read_end)
        self._lock = threading.Lock()

    def set(self) -> bool:
        """Wake the worker. False if the worker's end is closed."""
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
        """A descriptor of the worker's end, to be sent to the worker."""
        return DuplicatedFd(os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | _FLAGS))

    def close(self) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def __del__(self) -> None:
        self.close()


class DuplicatedFd:
    """A descriptor to be sent to the other process."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def copy(cls, fd: int) -> DuplicatedFd:
        """A second descriptor for the same file as `fd`."""
        return cls(os.dup(fd))

    def detach_fd(self) -> int:
        """The descriptor, which the caller must now close."""
        fd, self.fd = self.fd, -1
        return fd

    def close_fd(self) -> None:
        if self.fd >= 0:
            os.close(self.detach_fd())
