"""Threads, of which a process, a user and a container may have only so many, and which take memory to begin."""

from __future__ import annotations

import _thread
import mmap
import threading

from worker_client.system import limits

Mutex = _thread.RLock
"""A lock that is a real one also where gevent or eventlet has patched threading: theirs can leave a native thread
waiting for ever for what another thread has released. What is done under it must let no other greenlet run."""

_PIECES = 4
_PIECE_BYTES = 1 << 20  # as CPython takes memory for its objects


def start(thread: threading.Thread) -> None:
    """Raises Overloaded where the system gives no more threads, or no memory for one; it may be started once there is
    some again."""
    _check_memory(thread.name)
    try:
        thread.start()
    except RuntimeError as error:  # of pthread_create(3): EAGAIN
        raise limits.no_thread(thread.name, error) from None


def _check_memory(name: str) -> None:
    """A thread that has none for its first frame dies without a word, and `Thread.start` waits for it for ever."""
    pieces = []
    try:
        for number in range(_PIECES):  # which the kernel cannot join to one mapping
            protection = mmap.PROT_READ if number % 2 else mmap.PROT_READ | mmap.PROT_WRITE
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            pieces.append(mmap.mmap(-1, _PIECE_BYTES, flags=flags, prot=protection))
    except (OSError, MemoryError) as error:
        what = f"the thread {name!r}"
        raise limits.overloaded_by(error, _PIECES * _PIECE_BYTES, what) or error from None
    finally:
        for piece in pieces:
            piece.close()
