"""Children that Python is not notified of: fork() as uWSGI or a C library calls it, without os.register_at_fork
hooks."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from tests.workers import leave_pytest

_libc = ctypes.PyDLL(None)  # keeps the interpreter's lock over the call, as an extension's fork() does
_FORK_S = 0.3
_SETTLE_S = 0.05
_CHILD_S = 30
"""What hangs says where, and is killed, after so long."""


def fork_in_c() -> int:
    """Fork while no thread waits for the interpreter's lock.

    The condition variable of that lock counts its waiters, in the child as well, which does not have these threads.
    There glibc may wait for such a thread forever when the lock is passed on, and so may the interpreter if the thread
    had asked for the lock (after 5 ms; a large process takes longer to fork). No library can help code that forks in
    that way.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_FORK_S)
    try:
        time.sleep(_SETTLE_S)  # threads that were woken have had the lock by then, and sleep
        return int(_libc.fork())
    finally:
        sys.setswitchinterval(interval)


class Child:
    """Runs `function(*args)` in a child; what it returns comes back. It is killed if it hangs."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._reader, writer = os.pipe()
        self._trace = os.memfd_create("where it hangs")
        self.pid = fork_in_c()
        if self.pid == 0:
            _run(writer, self._trace, function, args)
        os.close(writer)
        self._ended = False

    def result(self) -> Any:
        ready, _, _ = select.select([self._reader], [], [], _CHILD_S)
        if not ready:
            os.kill(self.pid, signal.SIGUSR1)
            time.sleep(_SETTLE_S)
            os.kill(self.pid, signal.SIGALRM)
        with os.fdopen(os.dup(self._reader), "rb") as pipe:
            said = pipe.read()
        end = self._wait()
        where = os.pread(self._trace, 1 << 16, 0).decode()
        assert said, f"the child ended with {end} (-{signal.SIGALRM:d}: it hung)\n{where}"
        value, error = pickle.loads(said)
        assert not error, error
        return value

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._trace)
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)
            self._wait()

    def _wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        self._ended = True
        return os.waitstatus_to_exitcode(status)


@contextlib.contextmanager
def c_child(function: Callable[..., Any], *args: Any) -> Iterator[Child]:
    made = Child(function, *args)
    try:
        yield made
    finally:
        made.close()


def in_c_child(function: Callable[..., Any], *args: Any) -> Any:
    """Run `function` in such a child; its result."""
    with c_child(function, *args) as child:
        return child.result()


def _run(writer: int, trace: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(2 * _CHILD_S)
    faulthandler.register(signal.SIGUSR1, file=trace)
    leave_pytest()
    try:
        said = pickle.dumps((function(*args), ""))
    except BaseException as error:
        os.write(trace, f"raised {error!r}\n".encode())  # formatting it may be what hangs
        said = pickle.dumps((None, traceback.format_exc()))
    os.write(writer, said)
    os._exit(0)
