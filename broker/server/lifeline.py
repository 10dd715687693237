"""Reports this process's end to workers immediately, whatever its cause.

A process that is killed first frees its memory and then closes its descriptors (Linux: do_exit() calls exit_mm() before
exit_files()): with a model in it, the peers of its sockets learn of the end after tens to hundreds of milliseconds. The
last thread that ends frees the memory, though, while every thread closes the descriptors that only it has. So one
thread takes its own table of descriptors (unshare(2), CLONE_FILES) and opens a pipe in it: the holder of the pipe's
other end is notified as soon as that thread has ended, which takes about a millisecond.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading

from worker_client.interpreter import threads

_CLONE_FILES = 0x400


class Lifeline:
    """The lifeline of this process: poll(2) reports POLLHUP for `fd` when the process's end, or `close`, ends its
    thread.

    `fd` is -1 where a process may not unshare its descriptors, as under some seccomp profiles, and where gevent or
    eventlet have replaced threads by greenlets.
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
        else:  # the thread ends by itself, and may not have ended yet
            self._thread.join()
            self._release()

    def close(self) -> None:
        """End the thread, and with it the pipe. Idempotent."""
        if self._thread.is_alive():
            self._socket.send(b"\0")  # closing would not do: a forked child may have the socket as well
            self._thread.join()
        self._release()

    def after_fork_in_child(self) -> None:
        """Release the descriptors: the child has no such thread."""
        self._release()

    def _release(self) -> None:
        """Close the descriptors that a thread that has ended leaves."""
        self._socket.close()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _hold(report: int, starter: str) -> None:
    """Hold the write end of a pipe as the thread's only descriptor beside `report`, which sends the read end."""
    # A signal delivered to this thread would be written to a descriptor that it does not have, and wake no thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    if _thread() == starter or ctypes.CDLL(None).unshare(_CLONE_FILES):
        os.write(report, b"\0")  # no lifeline
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
    """The kernel's state of the thread, whatever gevent makes of Python's."""
    return os.readlink("/proc/thread-self")


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:  # the descriptor of the listing itself
        pass
