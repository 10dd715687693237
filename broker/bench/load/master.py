"""The process that forks the workers of a pool and stands between them and the bench: a server's master.

worker_pool.py (bench)                       this process                       worker.py (forked)
arm, number of workers ----- socket ----->   prepares the arm, forks  ------>   open it
                       <---- socket ------   pids, what the arm knows <------
Inputs, WindowOrder    ------------------>   to each of them          ------>
                       <------------------   all their replies        <------
the end                ------------------>   lets them end            ------>
"""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from broker.bench.load import worker
from broker.bench.load.forks import ForkedProcess, forked_processes, messages
from worker_client.wire.errors import BrokerError


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
        bodies = [partial(worker.main, arm=arm, number=number, workers=count) for number in range(count)]
        with forked_processes(bodies, [bench]) as workers:
            bench.send(_gather(workers))
            for message in messages(bench):
                for each in workers:
                    each.connection.send(message)
                bench.send(_gather(workers))
    return 0


def _gather(workers: list[ForkedProcess]) -> list[Any] | BrokerError:
    """The reply of each, or the first error."""
    try:
        return [worker.receive() for worker in workers]
    except BrokerError as error:
        return error


if __name__ == "__main__":
    sys.exit(main())
