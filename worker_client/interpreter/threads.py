"""Starting threads, whose number is limited per process, user and container, and which need memory to start."""

from __future__ import annotations

import _thread
import mmap
import threading

from worker_client.system import limits

Mutex = _thread.RLock
"""A real lock, even if gevent or eventlet has patched threading: with a patched lock a native thread may wait forever
for a lock that another thread has released. Code that holds it must not switch to another greenlet."""

_PIECES = 4
_PIECE_BYTES = 1 << 20  # the size in which CPython allocates memory for its objects


def start(thread: threading.Thread) -> None:
    """Start a thread. Raises Overloaded if the system gives no more threads, or no memory for one; the thread can be
    started again later."""
    _check_memory(thread.name)
    try:
        thread.start()
    except RuntimeError as error:
        if error.__context__ is not None:  # a signal handler raised while the caller waited for the thread
            raise error.__context__ from None
        # pthread_create(3) returned EAGAIN
        raise limits.no_thread(thread.name, error) from None


def _check_memory(name: str) -> None:
    """Raises Overloaded if memory is too short. A thread without memory for its first frame dies silently, and
    `Thread.start` would wait for it forever."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return
    pieces = []
    try:
        for number in range(_PIECES):  # pieces that the kernel cannot join to one mapping
            protection = mmap.PROT_READ if number % 2 else mmap.PROT_READ | mmap.PROT_WRITE
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            pieces.append(mmap.mmap(-1, _PIECE_BYTES, flags=flags, prot=protection))
    except (OSError, MemoryError) as error:
        what = f"the thread {name!r}"
        raise limits.overloaded_by(error, _PIECES * _PIECE_BYTES, what) or error from None
    finally:
        for piece in pieces:
            piece.close()
