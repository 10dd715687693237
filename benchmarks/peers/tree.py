"""Ending a process that we started, and all that it started: politely, then not. By process id, never by name."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

STOP_TIMEOUT_S = 8.0
KILL_TIMEOUT_S = 5.0


def runs(pid: int) -> bool:
    """A child of ours that has not ended."""
    return os.waitpid(pid, os.WNOHANG)[0] == 0


def end(root: int) -> None:
    """SIGTERM to the root, which may end the rest; SIGKILL to what is left. Idempotent.

    What leaves the tree by losing its parent is found again only in a subreaper, which the caller is.
    """
    before = {process.pid for process in psutil.Process().children(recursive=True)} - _below(root)
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(root)
        process.terminate()
        with suppress(psutil.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    left = [each for each in psutil.Process().children(recursive=True) if each.pid not in before]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, KILL_TIMEOUT_S)


def _below(root: int) -> set[int]:
    try:
        process = psutil.Process(root)
        return {root, *(each.pid for each in process.children(recursive=True))}
    except psutil.NoSuchProcess:
        return {root}
