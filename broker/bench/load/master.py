"""The process that forks the workers of a crew and stands between them and the bench: a server's master.

crew.py (another process)                    this process                       worker.py (forked)
arm, number of workers ----- socket ----->   prepares the arm, forks  ------>   open it
                       <---- socket ------   pids, what the arm tells <------
Inputs, Run            ------------------>   to each of them          ------>
                       <------------------   all their replies        <------
the end                ------------------>   lets them end            ------>
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
import traceback
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from broker.bench.arms import Arm
from broker.bench.load import worker
from worker_client.system.clock import monotonic
from worker_client.wire.errors import BrokerError

_PR_SET_PDEATHSIG = 1
_END_SECONDS = 10.0


def main() -> int:
    """`argv[1]` is the number of the socket."""
    bench = Connection(int(sys.argv[1]))
    with contextlib.suppress(EOFError, ConnectionError):
        arm, count = bench.recv()
        try:
            arm.prepare()
        except Exception as error:
            bench.send(BrokerError(f"{type(error).__name__}: {error}"))
            return 1
        workers: list[tuple[Connection, int]] = []
        for number in range(count):
            workers.append(_fork([bench, *(connection for connection, _ in workers)], arm, number, count))
        try:
            bench.send(_gather(workers))
            while True:
                message = bench.recv()
                for connection, _ in workers:
                    connection.send(message)
                bench.send(_gather(workers))
        finally:
            _end(workers)
    return 0


def _gather(workers: list[tuple[Connection, int]]) -> list[Any] | BrokerError:
    """The reply of each, or the first error."""
    replies = []
    for connection, pid in workers:
        try:
            reply = connection.recv()
        except (EOFError, ConnectionError):
            reply = BrokerError(f"worker {pid} of the bench has died")
        if isinstance(reply, BrokerError):
            return reply
        replies.append(reply)
    return replies


def _fork(inherited: list[Connection], arm: Arm, number: int, count: int) -> tuple[Connection, int]:
    ours, theirs = Pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    status = 1
    try:
        _die_with(parent)
        for connection in (
            ours,
            *inherited,
        ):  # else it would not see the end of the others' pipes, nor they of its
            connection.close()
        worker.main(theirs, arm, number, count)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was faster
        os._exit(1)


def _end(workers: list[tuple[Connection, int]]) -> None:
    """Close their pipes, give them time to end, and kill the others."""
    for connection, _ in workers:
        connection.close()
    deadline = monotonic() + _END_SECONDS
    left = [pid for _, pid in workers]
    while left and monotonic() < deadline:
        left = [pid for pid in left if os.waitpid(pid, os.WNOHANG)[0] == 0]
        time.sleep(0.005)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main())
