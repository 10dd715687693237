"""Semaphores: draining them, and fork."""

from __future__ import annotations

import os
import signal
import threading

from worker_client.ipc import semaphore

CHILDREN = 60
CHILD_SECONDS = 20


def test_a_fork_while_others_are_opened_and_closed_leaves_the_child_usable() -> None:
    """glibc's table of semaphores is never copied locked: each child opens and closes one of its own."""
    name = f"/onesession.contract.{os.getpid()}.fork"
    kept = semaphore.create(name)
    over = threading.Event()

    def open_and_close() -> None:
        while not over.is_set():
            semaphore.attach(name)

    threads = [threading.Thread(target=open_and_close) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        ends = [_forked(name) for _ in range(CHILDREN)]
    finally:
        over.set()
        for thread in threads:
            thread.join()
        semaphore.unlink(kept)
    assert ends == [0] * CHILDREN


def _forked(name: str) -> int:
    child = os.fork()
    if child == 0:
        signal.alarm(CHILD_SECONDS)  # what hangs is killed by it
        semaphore.attach(name)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_drain_takes_what_was_posted() -> None:
    """A drain takes all posts, up to the given maximum; the result says whether there were any."""
    made = semaphore.create(f"/onesession.contract.{os.getpid()}.drain")
    semaphore.unlink(made)
    assert not semaphore.drain(made)
    for posts, most, left in ((1, 1000, 0), (5, 1000, 0), (5, 3, 2)):
        for _ in range(posts):
            made.release()
        assert semaphore.drain(made, most)
        assert [semaphore.try_acquire(made) for _ in range(3)] == [number < left for number in range(3)]
    made.close()
