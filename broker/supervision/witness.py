"""Who was meant by a signal: this process, or its whole process group?

Nothing in a signal says so, and COMMAND, which is in our group, has got that of the group already: passed on, it would
come twice, which many servers take as "at once". So a process of the group, the witness, blocks all signals and takes
none: what is pending for it was sent to the group (docs/decisions/0010-group-signals.md).
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
_CHECK_SECONDS = (
    0.001  # the kernel signals the youngest of a group first, which is the witness; so it does today
)


class Witness:
    """Starts the witness, which ends with this process. Main thread only. Raises OSError if there can be none.

    It is no child of this process, which has no other children than its broker and COMMAND.
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
            self._pid = int(self._socket.recv(32) or 0)  # nothing if it could not be forked
            if not self._pid:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        except BaseException:
            self._socket.close()
            raise

    def saw(self, number: int) -> bool:
        """Whether this signal, which was just taken, was sent to our process group. Each is asked for once."""
        for poll in range(_CHECKS):
            if poll:
                sleep(_CHECK_SECONDS)
            with contextlib.suppress(OSError, ValueError):
                if number in pending_for(self._pid):
                    return self.forget()
        return False

    def forget(self) -> bool:
        """Have the witness take what is pending for it; False if it is gone."""
        try:
            return self._socket.send(b"\0") == 1 and self._socket.recv(1) != b""
        except OSError:
            return False

    def stop(self) -> None:
        self._socket.close()


def _fork_witness(fd: int) -> None:
    """The body of the process between."""
    try:
        if os.fork() == 0:
            _witness(fd)
    finally:
        os._exit(0)


def _witness(fd: int) -> None:
    """The body of its process: holds nothing but its socket, and runs nothing of what it was forked from."""
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
