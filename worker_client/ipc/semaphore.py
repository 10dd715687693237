"""POSIX semaphores between processes.

No thread waits on a semaphore with a time limit, because POSIX measures that on the realtime clock, which may be set at
any time. A waiter with a deadline is woken by a post from the thread that keeps the deadlines on the monotonic clock.

glibc keeps a table of the open semaphores under a lock of its own, which a fork copies as it is: a child forked while
another thread was opening or closing a semaphore would wait for that lock forever. So this module holds the
interpreter's lock while it opens or closes one: os.fork holds it as well, and a child that C code forked while a Python
thread held it runs no Python at all.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os

import posix_ipc

from worker_client.system import limits, shm
from worker_client.wire.documented import shown_as_documented
from worker_client.wire.errors import BrokerError, Overloaded

_WHAT = "a semaphore of the broker's"

Busy = posix_ipc.BusyError
Closed = posix_ipc.ExistentialError
Interrupted = posix_ipc.SignalError

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sem_wait.argtypes = [ctypes.c_void_p]

_libc_holding_the_lock = ctypes.PyDLL(None, use_errno=True)  # the interpreter's lock, as posix_ipc does
_sem_open = _libc_holding_the_lock.sem_open
_sem_open.restype = ctypes.c_void_p
_sem_open.argtypes = [ctypes.c_char_p, ctypes.c_int]
_sem_close = _libc_holding_the_lock.sem_close
_sem_close.argtypes = [ctypes.c_void_p]


class Semaphore(posix_ipc.Semaphore):
    """A semaphore that is closed with the last reference to it, so never while a thread waits; posix_ipc itself never
    closes one."""

    __slots__ = ()

    def __del__(self) -> None:
        try:
            self.close()
        except Closed:
            pass


class WaitableSemaphore(Semaphore):
    """A semaphore on which the main thread may block.

    posix_ipc discards any exception that a signal handler raises while it waits, except KeyboardInterrupt. gunicorn's
    handlers raise SystemExit, Celery's SoftTimeLimitExceeded; so `wait` calls libc directly.
    """

    __slots__ = ("_handle",)

    def __init__(self, name: str) -> None:
        self._handle: int | None = None
        super().__init__(name)
        self._handle = _sem_open(os.fsencode(name), 0)
        if self._handle is None:
            number = ctypes.get_errno()
            if number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise OSError(number, os.strerror(number))
            raise Closed(f"semaphore {name} went away")

    def wait(self) -> bool:
        """Block until there is a post. True if a signal came instead: its handler runs, and its exception
        propagates."""
        if not _libc.sem_wait(self._handle):
            return False
        if ctypes.get_errno() != errno.EINTR:
            raise OSError(ctypes.get_errno(), "sem_wait failed")
        return True

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # a signal handler raised before it was made
            handle, self._handle = self._handle, None
            if handle is not None:
                _sem_close(handle)
        super().__del__()


class ReleasedSemaphore(Semaphore):
    """Takes the place of a semaphore that was released: posts do nothing, and a wait ends at once."""

    __slots__ = ()

    def __init__(self) -> None:
        """Does not open a semaphore."""

    def acquire(self, timeout: float | None = None) -> None: ...

    def release(self) -> None: ...


def create(name: str, mode: int = 0o600) -> Semaphore:
    """A new semaphore at 0. Raises Overloaded if /dev/shm or the descriptor limit has no room for it, BrokerError if
    there is no /dev/shm that can be written to."""
    try:
        return Semaphore(name, posix_ipc.O_CREX, mode=mode, initial_value=0)
    except OSError as error:
        if why := shm.why_not(error):
            raise BrokerError(why) from None
        if error.errno == errno.ENOSPC:
            raise Overloaded("/dev/shm has no room for another semaphore; enlarge it") from None
        if error.errno is None:  # posix_ipc's own text for EMFILE and ENFILE
            raise Overloaded(
                f"no descriptor is left for another semaphore ({error}); raise `ulimit -n`"
            ) from None
        raise


@shown_as_documented
class NoSuchSemaphore(BrokerError):
    """No semaphore has this name. The broker that made it may have ended meanwhile."""


def attach(name: str) -> WaitableSemaphore:
    """Open a semaphore that the broker created. Raises NoSuchSemaphore, Overloaded, or BrokerError for another user's
    semaphore."""
    try:
        return WaitableSemaphore(name)
    except posix_ipc.ExistentialError:
        raise NoSuchSemaphore(
            f"semaphore {name} is not in this process's /dev/shm: workers and broker must share one "
            "(same container, or the same --ipc namespace and /dev/shm mount)"
        ) from None
    except posix_ipc.PermissionsError:
        raise BrokerError(f"semaphore {name} may not be opened by uid {os.geteuid()}") from None
    except (OSError, MemoryError) as error:
        raise _limit(error) or error from None


def _limit(error: OSError | MemoryError) -> Overloaded | None:
    if isinstance(error, OSError) and error.errno is None:  # posix_ipc's own text for EMFILE and ENFILE
        return limits.no_descriptor(_WHAT)
    return limits.overloaded_by(error, mmap.PAGESIZE, _WHAT)


def unlink(semaphore: Semaphore) -> None:
    """Remove the name; processes that have it open keep the semaphore."""
    try:
        semaphore.unlink()
    except posix_ipc.ExistentialError:
        pass


def drain(semaphore: Semaphore, most: int = 1000) -> bool:
    """Take the posts that are there now. True if there was one.

    Takes at most `most` posts: a process that posts faster than this one takes must not keep it here.
    """
    found = False
    for _ in range(most):
        if not try_acquire(semaphore):
            break
        found = True
    return found


def try_acquire(semaphore: Semaphore) -> bool:
    try:
        semaphore.acquire(0)
    except Busy:
        return False
    return True


def acquire(semaphore: Semaphore) -> None:
    """Block until there is a post. The main thread must use `WaitableSemaphore.wait` instead."""
    while True:
        try:
            semaphore.acquire()
            return
        except Interrupted:
            continue
