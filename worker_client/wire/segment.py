"""A shared-memory segment: created by the broker, mapped by both sides, without a name as soon as it exists.

The broker passes the descriptor over the control socket, so the name lives for the few microseconds between
`shm_open` and `shm_unlink`; what a kill can leave in between is swept at the next start.
"""

from __future__ import annotations

import errno
import mmap
import os

import posix_ipc

from worker_client.wire.errors import Overloaded


class Segment:
    """`nbytes` of zeroed shared memory. `fd` stays open only on the side that created it, to be passed on."""

    __slots__ = ("bytes", "fd", "map", "nbytes")

    def __init__(self, fd: int, nbytes: int) -> None:
        self.fd = fd
        self.nbytes = nbytes
        self.map = mmap.mmap(fd, nbytes)
        self.bytes = memoryview(self.map)

    @classmethod
    def create(cls, name: str, nbytes: int) -> Segment:
        """Create and map a segment. Raises Overloaded if the memory is not there.

        All pages are reserved now: a page that tmpfs cannot give later is a SIGBUS in the middle of a write.
        """
        try:
            memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600)
        except OSError as error:
            raise _no_memory(error, nbytes) from None
        try:
            memory.unlink()
            os.posix_fallocate(memory.fd, 0, nbytes)
            return cls(memory.fd, nbytes)
        except OSError as error:
            memory.close_fd()
            raise _no_memory(error, nbytes) from None

    @classmethod
    def attach(cls, fd: int, nbytes: int) -> Segment:
        """Map a segment that the other side created. Takes over and closes `fd`."""
        try:
            segment = cls(fd, nbytes)
        finally:
            os.close(fd)
        segment.fd = -1
        return segment

    def detach_fd(self) -> int:
        """The descriptor, now the caller's to close."""
        fd, self.fd = self.fd, -1
        return fd

    def close_fd(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        """Let go of the memory: at once, or with the last numpy view on it."""
        self.close_fd()
        # Never `map.close()`: a numpy view refers to the mapping without exporting its buffer, so that would unmap
        # it below the view. It goes with the last reference.
        self.bytes.release()
        del self.map


def _no_memory(error: OSError, nbytes: int) -> Exception:
    if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
        return error
    try:
        free = os.statvfs("/dev/shm")
        room = f"{free.f_bavail * free.f_frsize:,} of {free.f_blocks * free.f_frsize:,} bytes are free"
    except OSError:
        room = "its size cannot be read"
    return Overloaded(
        f"/dev/shm cannot hold another {nbytes:,} bytes ({room}). Enlarge it "
        "(mount -o remount,size=1G /dev/shm; docker run --shm-size=1g) or lower max_total_bytes"
    )
