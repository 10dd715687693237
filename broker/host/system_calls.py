"""The system calls that a broker cannot do without, tried before anything else is done.

Hardened units and containers have filters that refuse some (`worker_client/system/refusal.py`). A refusal in the middle
of a start would be an error without a name, or one that blames the model.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator

from worker_client.system.refusal import is_refusal, refused


def check() -> None:
    """For whoever holds an address. Raises BrokerError that names the first call that is refused."""
    fd = -1
    try:
        with _needed("memfd_create", "shared memory"):
            fd = os.memfd_create("onesession-check", os.MFD_CLOEXEC)
        with _needed("fchmod", "a socket that is its user's alone"):
            os.fchmod(fd, 0o600)
        with _needed("flock", "the lock of an address"):
            fcntl.flock(fd, fcntl.LOCK_SH)
        with _needed("eventfd2", "the connection to workers"):
            os.close(os.eventfd(0, os.EFD_CLOEXEC))
        with _needed("pipe2", "the connection to workers"):
            for end in os.pipe2(os.O_CLOEXEC):
                os.close(end)
    finally:
        if fd >= 0:
            os.close(fd)


def check_to_supervise() -> None:
    """For a parent that keeps a broker running, and takes its signals one by one. Raises BrokerError."""
    with _needed("rt_sigtimedwait", "a parent that keeps a broker running"):
        signal.sigtimedwait((), 0)


@contextlib.contextmanager
def _needed(call: str, purpose: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # for want of descriptors and the like, too: who needs one says so then
        if is_refusal(error):
            raise refused(call, purpose, error) from None
