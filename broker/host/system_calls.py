"""Tries the system calls that a broker needs, before anything else.

Hardened units and containers have filters that refuse some calls (`worker_client/system/refusal.py`). A refusal in the
middle of a start would cause an error that does not name the call, or that blames the model.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator

from worker_client.system.refusal import is_refusal, refused


def check() -> None:
    """Check the calls that the holder of an address needs. Raises BrokerError, which names the first call that is
    refused."""
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
    """Check the calls that a supervisor needs, which takes its signals one by one. Raises BrokerError."""
    with _needed("rt_sigtimedwait", "a parent that keeps a broker running"):
        signal.sigtimedwait((), 0)


@contextlib.contextmanager
def _needed(call: str, purpose: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # other errors are reported when the call is needed
        if is_refusal(error):
            raise refused(call, purpose, error) from None
