"""Processes that end with the one that started them, however that ends: a benchmark leaves nothing running."""

from __future__ import annotations

import ctypes
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends. It stays so after exec()."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it was faster
        os._exit(1)


def fork(body: Callable[..., Any], *arguments: Any) -> int:
    """Run `body(*arguments)` in a child, which ends with us at the latest. The caller waits for it."""
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent()
            body(*arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def wait_or_kill(pid: int, timeout_s: float) -> None:
    """Give a child that is about to end time to do so."""
    limit = time.monotonic() + timeout_s
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > limit:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.005)


@contextmanager
def forked(body: Callable[..., Any], *arguments: Any) -> Iterator[int]:
    """Run `body(*arguments)` in a forked child while the block runs; then kill it. Gives its process id."""
    pid = fork(body, *arguments)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
