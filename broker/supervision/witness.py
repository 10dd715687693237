"""Finds out whether a signal was sent to this process or to its whole process group.

A signal does not carry this information. COMMAND, which is in our group, already got a signal to the group; if we
passed it on, it would arrive twice, which many servers take as "stop immediately". So a process of the group, the
witness, blocks all signals and takes none: each signal that is pending for it was sent to the group
(docs/decisions/0010-group-signals.md).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from time import sleep

from broker.process.signals import pending_for

_ANSWER_SECONDS = 1.0
_CHECKS = 3
_CHECK_SECONDS = 0.001  # today's kernels signal the youngest process of a group first, which is the witness


class Witness:
    """Starts the witness, which ends with this process. Used on the main thread only. Raises OSError if it cannot be
    started.

    The witness is not a child of this process, whose only children are its broker and COMMAND.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_ANSWER_SECONDS)
        try:
            with theirs:
                between = os.fork()
                if between == 0:
                    _fork_witness(theirs.fileno())
            os.waitpid(between, 0)
            self._pid = int(self._socket.recv(32) or 0)  # empty if it could not be forked
            if not self._pid:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        except BaseException:
            self._socket.close()
            raise

    def saw(self, number: int) -> bool:
        """Whether this signal, which was just taken, was sent to our process group. Call it once for each signal."""
        for poll in range(_CHECKS):
            if poll:
                sleep(_CHECK_SECONDS)
            with contextlib.suppress(OSError, ValueError):
                if number in pending_for(self._pid):
                    return self.forget()
        return False

    def forget(self) -> bool:
        """Have the witness take its pending signals; False if it is gone."""
        try:
            return self._socket.send(b"\0") == 1 and self._socket.recv(1) != b""
        except OSError:
            return False

    def stop(self) -> None:
        self._socket.close()


def _fork_witness(fd: int) -> None:
    """The body of the intermediate process."""
    try:
        if os.fork() == 0:
            _witness(fd)
    finally:
        os._exit(0)


def _witness(fd: int) -> None:
    """The body of the witness: it keeps only its socket, and runs no code of the program that it was forked from."""
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.dup2(fd, 0)
        os.closerange(1, os.sysconf("SC_OPEN_MAX"))
        os.write(0, b"%d" % os.getpid())
        while os.read(0, 1):
            while signal.sigtimedwait(signal.valid_signals(), 0) is not None:
                pass
            os.write(0, b"\0")
    finally:
        os._exit(0)
