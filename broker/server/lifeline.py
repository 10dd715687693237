"""Tells of this process's end at once, whatever it dies of.

A process that is killed frees its memory first and closes its descriptors then (Linux: do_exit() calls exit_mm() before
exit_files()): with a model in it, the peers of its sockets learn of the end after tens to hundreds of milliseconds.
The memory is freed by the last thread that ends, though, and every thread closes what only it has. So one thread takes
a table of descriptors of its own (unshare(2), CLONE_FILES) and opens a pipe in it: whoever has the pipe's other end is
told as soon as that thread has ended, which takes about a millisecond.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading

from worker_client.system import threads

_CLONE_FILES = 0x400


class Lifeline:
    """`fd` is a descriptor at which poll(2) reports POLLHUP when this process, or `close`, has ended the thread.

    -1 where a process may not unshare its descriptors, as under some seccomp profiles, and where gevent or eventlet
    have made greenlets of threads.
    """

    def __init__(self) -> None:
        self.fd = -1
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._thread = threading.Thread(
            target=_hold, args=(theirs.fileno(), _thread()), name="onesession-lifeline", daemon=True
        )
        with theirs:
            threads.start(self._thread)
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if fds:
            self.fd = fds[0]
        else:  # the thread ends by itself, and may have its end still before it
            self._thread.join()
            self._release()

    def close(self) -> None:
        """End the thread, and with it the pipe. Idempotent."""
        if self._thread.is_alive():
            self._socket.send(b"\0")  # and not its end: a forked child may have the socket as well
            self._thread.join()
        self._release()

    def after_fork_in_child(self) -> None:
        """There is no such thread here."""
        self._release()

    def _release(self) -> None:
        """Close what is left of a thread that has ended."""
        self._socket.close()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _hold(report: int, starter: str) -> None:
    """Have the write end of a pipe as one's only descriptor beside `report`, at which the read end is sent."""
    # A signal that came here would be written to a descriptor that this thread has not, and wake nobody.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    if _thread() == starter or ctypes.CDLL(None).unshare(_CLONE_FILES):
        os.write(report, b"\0")  # there is none
        return
    for name in os.listdir("/proc/thread-self/fd"):
        if int(name) != report:
            _close(int(name))
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    with socket.socket(fileno=report) as here:
        socket.send_fds(here, [b"\0"], [read_end])
        os.close(read_end)
        here.recv(1)
    os.close(write_end)


def _thread() -> str:
    """The kernel's, whatever gevent makes of Python's."""
    return os.readlink("/proc/thread-self")


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:  # the one that listed them
        pass
