"""POSIX semaphores between processes.

Nobody waits on one with a time limit: POSIX measures that on the realtime clock, which may be set at any time. A
waiter with a deadline is woken by a post from the thread that keeps the deadlines on the monotonic clock.
"""

from __future__ import annotations

import errno
import os

import posix_ipc

from worker_client.wire.errors import BrokerError, Overloaded

Semaphore = posix_ipc.Semaphore
Busy = posix_ipc.BusyError
Interrupted = posix_ipc.SignalError


def create(name: str, mode: int = 0o600) -> Semaphore:
    """A new semaphore at 0. Raises Overloaded if /dev/shm or the descriptor limit has no room for it."""
    try:
        return Semaphore(name, posix_ipc.O_CREX, mode=mode, initial_value=0)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise Overloaded("/dev/shm has no room for another semaphore; enlarge it") from None
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise Overloaded("no descriptor is left for another semaphore; raise `ulimit -n`") from None
        raise


def attach(name: str) -> Semaphore:
    """Open a semaphore that the broker created."""
    try:
        return Semaphore(name)
    except posix_ipc.ExistentialError:
        raise BrokerError(
            f"semaphore {name} is not in this process's /dev/shm: workers and broker must share one "
            "(same container, or the same --ipc namespace and /dev/shm mount)"
        ) from None
    except posix_ipc.PermissionsError:
        raise BrokerError(f"semaphore {name} may not be opened by uid {os.geteuid()}") from None


def unlink(semaphore: Semaphore) -> None:
    """Remove the name; processes that have it open keep the semaphore."""
    try:
        semaphore.unlink()
    except posix_ipc.ExistentialError:
        pass


def drain(semaphore: Semaphore) -> None:
    """Take every post that is there now."""
    try:
        while True:
            semaphore.acquire(0)
    except Busy:
        pass


def try_acquire(semaphore: Semaphore) -> bool:
    try:
        semaphore.acquire(0)
    except Busy:
        return False
    return True


def acquire(semaphore: Semaphore) -> None:
    """Block for a post. Signal handlers run meanwhile; what they raise comes out, else the wait goes on."""
    while True:
        try:
            semaphore.acquire()
            return
        except Interrupted:
            continue
