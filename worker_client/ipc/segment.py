"""A shared-memory segment: created by the broker, mapped by both sides, without a name.

It is a `memfd`. The broker seals its size and then passes its descriptor over the control socket: if a worker could
truncate the file, the broker would die of SIGBUS at the next byte that it touches.
"""

from __future__ import annotations

import errno
import fcntl
import os

from worker_client.system import limits
from worker_client.system.descriptor import Descriptor
from worker_client.system.pages import map_shared
from worker_client.system.refusal import is_refusal
from worker_client.wire.errors import Overloaded

_FLAGS = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
_NO_EXECUTION = 8  # MFD_NOEXEC_SEAL, which vm.memfd_noexec=2 requires and kernels before 6.3 do not know
_CHUNK = 1 << 20
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Segment:
    """`nbytes` of zeroed shared memory. `fd` stays open only on the side that created it, to be passed on."""

    __slots__ = ("bytes", "fd", "nbytes")

    def __init__(self, fd: int, nbytes: int) -> None:
        self.fd = fd
        self.nbytes = nbytes
        self.bytes = map_shared(fd, nbytes)

    @classmethod
    def create(cls, name: str, nbytes: int) -> Segment:
        """Create and map a segment; `name` shows in /proc/PID/maps. Raises Overloaded if the memory is not available.

        All pages are allocated now, because a page that the memory limit refuses later would end a process in the
        middle of a write.
        """
        try:
            fd = _new_file(name.lstrip("/"))
        except OSError as error:
            raise _refused(error, nbytes) from None
        try:
            os.fchmod(fd, 0o600)
            _take_pages(fd, nbytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return cls(fd, nbytes)
        except OSError as error:
            os.close(fd)
            raise _refused(error, nbytes) from None

    @classmethod
    def attach(cls, descriptor: Descriptor, nbytes: int) -> Segment:
        """Map a segment that the other side created, and close its descriptor. It stays open if the segment cannot be
        mapped. Raises Overloaded, which names the limit; OSError if other code closed the descriptor."""
        what = f"a segment of {nbytes:,} bytes of the broker's memory"
        if descriptor.missing:
            raise limits.no_descriptor(what)
        if not descriptor.ours:
            raise OSError(errno.EBADF, "other code of this program closed the descriptor of a segment")
        try:
            segment = cls(descriptor.fd, nbytes)
        except (OSError, MemoryError) as error:
            raise limits.overloaded_by(error, nbytes, what) or error from None
        descriptor.close()
        segment.fd = -1
        return segment

    def detach_fd(self) -> int:
        """The descriptor, which the caller must now close."""
        fd, self.fd = self.fd, -1
        return fd

    def close_fd(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        """Release the memory, at once or with the last numpy view of it."""
        self.close_fd()
        self.bytes.release()


def _new_file(name: str) -> int:
    try:
        return os.memfd_create(name, _FLAGS | _NO_EXECUTION)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, _FLAGS)


def _take_pages(fd: int, nbytes: int) -> None:
    try:
        os.posix_fallocate(fd, 0, nbytes)
    except OSError as error:
        if not is_refusal(error):
            raise
        zeros = bytes(min(nbytes, _CHUNK))
        for offset in range(0, nbytes, _CHUNK):
            _write_all(fd, memoryview(zeros)[: nbytes - offset], offset)


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def _refused(error: OSError, nbytes: int) -> Exception:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Overloaded(
            f"no descriptor is left for another segment of shared memory ({error.strerror}); raise `ulimit -n`"
        )
    if error.errno == errno.EFBIG:
        return Overloaded(
            f"a segment of {nbytes:,} bytes is larger than this process may make files; raise RLIMIT_FSIZE (ulimit -f)"
        )
    if error.errno in (errno.ENOSPC, errno.ENOMEM):
        return Overloaded(
            f"the machine has no memory for another segment of {nbytes:,} bytes ({error.strerror}); give it more, "
            "or lower max_total_bytes"
        )
    return error
