"""Starts a process: the part of `subprocess` that the broker needs, for parents that are other programs.

A server's master waits for all its children, and so may take the exit status of ours. gevent's patched `subprocess`
watches every child, and so would take the exit statuses of the master's children.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from time import sleep

from broker.own_process import descriptors
from worker_client.interpreter.executable import python
from worker_client.system.clock import monotonic

_FIRST_CHECK_SECONDS = 0.0005
_LAST_CHECK_SECONDS = 0.05


class SpawnedProcess:
    """A Python program in its own session. `stdin` is our end of its standard input."""

    def __init__(self, arguments: Sequence[str], keep: Iterable[int], environment: Mapping[str, str]) -> None:
        """Start `python ARGUMENTS`. It inherits the descriptors `keep`, our standard output and standard error. Raises
        OSError, and BrokerError if no Python interpreter is found."""
        keep, program = list(keep), python()
        theirs, ours = descriptors.pipe()
        self.stdin = open(ours, "wb", buffering=0)  # noqa: SIM115 - its end is what ends the child
        self.status: int | None = None
        """Its exit status (-N for signal N), once it has ended and if this object waited for it."""
        self._ended = False
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 0), *_outputs(), *_closing(keep)]
        try:
            with _inherited(keep):
                self.pid = os.posix_spawn(
                    program,
                    [program, *arguments],
                    environment,
                    file_actions=actions,
                    setsid=True,
                )
        except BaseException:
            self.stdin.close()
            raise
        finally:
            os.close(theirs)

    def has_ended(self) -> bool:
        """Whether it has ended, without waiting."""
        if not self._ended:
            self._wait(os.WNOHANG)
        return self._ended

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended; False if it does not end within `seconds`."""
        if seconds is None and not self._ended:
            self._wait(0)
        limit = monotonic() + (seconds or 0)
        pause = _FIRST_CHECK_SECONDS
        while not self.has_ended():
            left = limit - monotonic()
            if left <= 0:
                return False
            sleep(min(pause, left))
            pause = min(2 * pause, _LAST_CHECK_SECONDS)
        return True

    def kill(self) -> None:
        if not self.has_ended():
            os.kill(self.pid, signal.SIGKILL)

    def describe_end(self) -> str:
        """How it has ended, or is just about to end."""
        self.wait()
        if self.status is None:
            return "ended"
        if self.status >= 0:
            return f"ended with status {self.status}"
        try:
            return f"was killed by {signal.Signals(-self.status).name}"
        except ValueError:  # a realtime signal
            return f"was killed by signal {-self.status}"

    def _wait(self, options: int) -> None:
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:  # other code has waited for it
            self._ended = True
            return
        if pid:
            self._ended = True
            self.status = os.waitstatus_to_exitcode(status)


@contextmanager
def _inherited(descriptors: Iterable[int]) -> Iterator[None]:
    """Let processes that are started in the block inherit these descriptors."""
    with ExitStack() as stack:
        for fd in descriptors:
            if not os.get_inheritable(fd):
                os.set_inheritable(fd, True)
                stack.callback(os.set_inheritable, fd, False)
        yield


def _outputs() -> list[tuple[int, int, str, int, int]]:
    """/dev/null for standard output and standard error if this process does not have them."""
    return [
        (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0)
        for fd in (1, 2)
        if not descriptors.is_output(fd)
    ]


def _closing(keep: Iterable[int]) -> list[tuple[int, int]]:
    """Close actions for descriptors that would be inherited otherwise, such as a server's listening sockets."""
    kept = {0, 1, 2, *keep}
    # The limit may have been higher before. glibc refuses descriptors beyond it, by the same call as here, so the
    # result agrees even where getrlimit is refused.
    limit = os.sysconf("SC_OPEN_MAX")
    return [
        (os.POSIX_SPAWN_CLOSE, fd)
        for fd in _open_descriptors()
        if fd not in kept and not 0 <= limit <= fd and _is_inheritable(fd)
    ]


def _open_descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # closed in the meantime, as the descriptor of the listing is
        return False
