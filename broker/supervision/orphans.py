"""Ended processes that are left to us: pid 1 of a container, or a subreaper, becomes the parent of every orphan, and
must take their exit statuses, or they fill the table of processes. The statuses of our own children are their owners'.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping


def reap(children: Mapping[int | None, Callable[[], object]]) -> None:
    """Take the status of every child that has ended. `children`: who takes, and remembers, that of a pid which is ours.

    Only for a process whose children are all started by its main thread, which calls this.
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
