"""Processes that end with the one that started them, however that ends: a benchmark leaves nothing running."""

from __future__ import annotations

import ctypes
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was faster
        os._exit(1)


@contextmanager
def forked(body: Callable[..., Any], *arguments: Any) -> Iterator[int]:
    """Run `body(*arguments)` in a forked child while the block runs; then kill it. Gives its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent()
            body(*arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
