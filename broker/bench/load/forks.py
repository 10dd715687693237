"""Forked processes that end with the process that forked them, however that ends, and the pipe to each."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from worker_client.system.clock import monotonic
from worker_client.wire.errors import BrokerError

_PR_SET_PDEATHSIG = 1
_END_SECONDS = 10.0

Body = Callable[[Connection], None]
"""What a forked process runs, at its end of the pipe."""


def die_with_parent(number: signal.Signals = signal.SIGKILL, parent: int | None = None) -> None:
    """Have the kernel send this process a signal when its parent ends (prctl(2)). This outlives exec().

    `parent`: its process id, if the caller knew it before the fork.
    """
    parent = parent or os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it was faster
        os._exit(1)


def fork(body: Callable[..., Any], *arguments: Any) -> int:
    """Run `body(*arguments)` in a child process, which ends with this one at the latest. The caller waits for it."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        die_with_parent(parent=parent)
        body(*arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


@contextmanager
def forked(body: Callable[..., Any], *arguments: Any) -> Iterator[int]:
    """Run `body(*arguments)` in a forked child while the block runs; then kill it. Gives its process id."""
    pid = fork(body, *arguments)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def wait_or_kill(pid: int, seconds: float) -> None:
    """Wait so long for a child process that is about to end; then kill it."""
    limit = monotonic() + seconds
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if monotonic() > limit:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.005)


def messages(connection: Connection) -> Iterator[Any]:
    """The messages of the other end, until it closes."""
    while True:
        try:
            message = connection.recv()
        except (EOFError, ConnectionError):
            return
        yield message


class ForkedProcess:
    """A child process that runs `body` with its end of a pipe. It closes the `inherited` connections, so that each
    end of a pipe is open in one process only: each side then sees the end of the other."""

    def __init__(self, body: Body, inherited: Sequence[Connection] = ()) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            self.pid = fork(_run, body, theirs, [self.connection, *inherited])

    def receive(self, seconds: float | None = None) -> Any:
        """The next message. Raises BrokerError: if there is none in this time, or if it is one."""
        try:
            if not self.connection.poll(seconds):
                raise BrokerError(f"worker {self.pid} did not answer within {seconds:g} s")
            message = self.connection.recv()
        except (EOFError, ConnectionError):
            raise BrokerError(f"worker {self.pid} of the bench has died") from None
        if isinstance(message, BrokerError):
            raise message
        return message


@contextmanager
def forked_processes(
    bodies: Sequence[Body], inherited: Sequence[Connection] = ()
) -> Iterator[list[ForkedProcess]]:
    """A process for each body. When the block ends, their pipes close; those that do not end then are killed."""
    processes: list[ForkedProcess] = []
    try:
        for body in bodies:
            open_here = [*inherited, *(process.connection for process in processes)]
            processes.append(ForkedProcess(body, open_here))
        yield processes
    finally:
        for process in processes:
            process.connection.close()
        limit = monotonic() + _END_SECONDS
        for process in processes:
            wait_or_kill(process.pid, max(0.0, limit - monotonic()))


def _run(body: Body, connection: Connection, inherited: Sequence[Connection]) -> None:
    for each in inherited:
        each.close()
    body(connection)
