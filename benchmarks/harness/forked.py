"""A forked process that runs while a block runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from broker.bench.load.forks import fork


@contextmanager
def forked(body: Callable[..., Any], *arguments: Any) -> Iterator[int]:
    """Run `body(*arguments)` in a forked child while the block runs; then kill it. Gives its process id."""
    pid = fork(body, *arguments)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
