"""Threads, of which a process, a user and a container may have only so many."""

from __future__ import annotations

import threading

from worker_client.wire.errors import Overloaded


def start(thread: threading.Thread) -> None:
    """Raises Overloaded where the system gives no more threads; it may be started once there is one again."""
    try:
        thread.start()
    except RuntimeError as error:  # of pthread_create(3): EAGAIN
        raise Overloaded(
            f"the thread {thread.name!r} cannot be started: {error}; raise the limit of processes (ulimit -u, or "
            "pids.max of the container), or lower the size of thread stacks (ulimit -s)"
        ) from None
