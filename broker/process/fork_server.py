"""Forks the workers of `Broker.run_workers`, the first and their replacements, from a process without TensorFlow.

A process that holds a session must not fork processes that may use TensorFlow, and its forks would carry its memory
along. So the broker's process forks the fork server before it loads anything; the fork server has one thread, and forks
on request.

    broker process  -- start(index) -->  fork server  -- fork -->  worker
                    <-- exited(index, status) --
     the end of the pipe means: the broker's process has ended or finished; the fork server ends its workers and itself
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

from broker.process import signals
from worker_client.wire.address import VARIABLE

INDEX_VARIABLE = "BROKER_WORKER_INDEX"
_GRACE_SECONDS = 5.0

_fork = multiprocessing.get_context("fork")


class ForkServer:
    """The broker process's handle on the fork server. Create it before any model is loaded."""

    def __init__(self, address: str, target: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._pipe, theirs = _fork.Pipe()
        self._process = _fork.Process(
            target=_main, args=(theirs, self._pipe, address, target, args), name="onesession-fork-server"
        )
        self._process.start()
        theirs.close()

    def start(self, index: int) -> None:
        """Fork worker number `index`."""
        self._pipe.send(index)

    def next_exit(self) -> tuple[int, int]:
        """Wait for a worker's end: (index, exit status; -N for signal N). Raises EOFError if the fork server died."""
        index, status = self._pipe.recv()
        return index, status

    def wait(self, seconds: float) -> bool:
        """True as soon as `next_exit` would not block."""
        return self._pipe.poll(seconds)

    def stop(self) -> None:
        """End the remaining workers and the fork server. Idempotent."""
        self._pipe.close()
        self._process.join()


def _main(
    pipe: Connection,
    parents_end: Connection,
    address: str,
    target: Callable[..., object],
    args: tuple[Any, ...],
) -> None:
    parents_end.close()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C ends the workers and the parent; their end then ends this process
    ignored_children = signals.heed_children()
    os.environ[VARIABLE] = address
    workers: dict[int, tuple[int, ForkProcess]] = {}
    with contextlib.suppress(EOFError, OSError):
        while True:
            for ready in wait([pipe, *workers]):
                if ready is pipe:
                    index = pipe.recv()
                    worker = _fork.Process(
                        target=_worker,
                        args=(pipe, index, target, args, ignored_children),
                        name=f"worker-{index}",
                    )
                    worker.start()
                    workers[worker.sentinel] = index, worker
                else:
                    assert isinstance(ready, int)
                    index, worker = workers.pop(ready)
                    worker.join()
                    pipe.send((index, worker.exitcode))
                    worker.close()
    _end([worker for _, worker in workers.values()])


def _worker(
    pipe: Connection, index: int, target: Callable[..., object], args: tuple[Any, ...], ignore_children: bool
) -> None:
    pipe.close()
    if ignore_children:  # as in the caller of `run_workers`
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ[INDEX_VARIABLE] = str(index)
    target(*args)


def _end(workers: list[ForkProcess]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(_GRACE_SECONDS)
        if worker.exitcode is None:
            worker.kill()
            worker.join()
