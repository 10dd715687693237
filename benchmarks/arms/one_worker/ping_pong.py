"""Two processes and two POSIX semaphores: the machine's own cost of a round trip that carries no data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic_ns

import numpy as np
import posix_ipc

from benchmarks.harness.host import affinity
from benchmarks.harness.timed import Timed
from benchmarks.workloads import Workload
from broker.bench.load.forks import forked

_GIVE_UP_NS = 50_000_000  # without a ping for so long, a poller blocks: the next window is another arm's
_LOOKS = 64

Acquire = Callable[[posix_ipc.Semaphore], None]


@contextmanager
def ping_pong(workload: Workload, poll: bool, pinned: bool = False) -> Iterator[Timed]:
    """Post one semaphore, acquire the other. The answer is a stored one: semaphores carry nothing."""
    if pinned:
        affinity.pin(affinity.CALLER)
    ping, pong = _semaphore("ping"), _semaphore("pong")
    acquire = _poll if poll else _block
    answer = workload.answers[0]

    def call(x: np.ndarray) -> np.ndarray:
        ping.release()
        acquire(pong)
        return answer

    with forked(_serve, ping, pong, acquire, pinned):
        yield Timed(call)
    ping.close()
    pong.close()


def _serve(ping: posix_ipc.Semaphore, pong: posix_ipc.Semaphore, acquire: Acquire, pinned: bool) -> None:
    if pinned:
        affinity.pin(affinity.OTHER)
    while True:
        acquire(ping)
        pong.release()


def _block(semaphore: posix_ipc.Semaphore) -> None:
    semaphore.acquire()


def _poll(semaphore: posix_ipc.Semaphore) -> None:
    limit = monotonic_ns() + _GIVE_UP_NS
    while monotonic_ns() < limit:
        for _ in range(_LOOKS):
            try:
                semaphore.acquire(0)
                return
            except posix_ipc.BusyError:
                pass
    semaphore.acquire()


def _semaphore(name: str) -> posix_ipc.Semaphore:
    """A semaphore whose name is removed at once: the child process inherits it."""
    made = posix_ipc.Semaphore(f"/onesession.bench.{os.getpid()}.{name}", posix_ipc.O_CREX, mode=0o600)
    made.unlink()
    return made
