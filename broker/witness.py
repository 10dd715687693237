"""Who was meant by a signal: this process, or its whole process group?

Nothing in a signal says so, and COMMAND, which is in our group, has got that of the group already: passed on, it would
come twice, which many servers take as "at once". So a process of the group, the witness, blocks all signals and takes
none: what is pending for it was sent to the group (docs/decisions/0010-group-signals.md).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from time import sleep

from broker.signals import pending_for

_ANSWER_SECONDS = 1.0
_LOOKS = 3
_LOOK_SECONDS = (
    0.001  # the kernel signals the youngest of a group first, which is the witness; so it does today
)


class Witness:
    """Starts the witness, which ends with this process. Main thread only. Raises OSError if there can be none."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            try:
                self.pid = os.fork()
            except BaseException:
                self._socket.close()
                raise
            if self.pid == 0:
                _witness(theirs.fileno())
        self._socket.settimeout(_ANSWER_SECONDS)

    def saw(self, number: int) -> bool:
        """Whether this signal was sent to our process group, as one that was just taken. Each is asked for once."""
        for look in range(_LOOKS):
            if look:
                sleep(_LOOK_SECONDS)
            with contextlib.suppress(OSError, ValueError):
                if number in pending_for(self.pid):
                    self.forget()
                    return True
        return False

    def forget(self) -> None:
        """Have the witness take what is pending for it."""
        with contextlib.suppress(OSError):
            self._socket.send(b"\0")
            self._socket.recv(1)

    def has_ended(self) -> bool:
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return True

    def stop(self) -> None:
        self._socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _witness(fd: int) -> None:
    """The body of its process: holds nothing but its socket, and runs nothing of what it was forked from."""
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.dup2(fd, 0)
        os.closerange(1, os.sysconf("SC_OPEN_MAX"))
        while os.read(0, 1):
            while signal.sigtimedwait(signal.valid_signals(), 0) is not None:
                pass
            os.write(0, b"\0")
    finally:
        os._exit(0)
