"""Reaps orphans: pid 1 of a container, or a subreaper, becomes the parent of every orphan, and must take their exit
statuses, or they fill the process table. The exit statuses of our own children belong to their owners.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping


def reap(children: Mapping[int | None, Callable[[], object]]) -> None:
    """Take the status of every child that has ended. `children` maps the pids of our own children to the function that
    takes and remembers their status.

    Only for a process whose main thread starts all children and calls this function.
    """
    while (pid := _ended_child()) is not None:
        take = children.get(pid)
        if take is not None:
            take()
        else:
            os.waitpid(pid, os.WNOHANG)


def _ended_child() -> int | None:
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid
