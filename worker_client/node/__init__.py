"""One broker per node, for the processes of Spark, Ray, Dask and Beam, which onesession does not start.

client = worker_client.node.shared({"digits": "/models/digits"}, idle_seconds=120)
y = client.model("digits").predict(x)

    process  --call-->  attached?  yes ------------------------------------------------>  broker
                           | no                                                             ^
                           v                                                                |
                        connect  listens ---------------------------------------------------+
                           | no broker                                                      |
                           v                                                                |
                        start lock  held by another process: wait                       |
                           | ours: check again, start `onesession serve`, which inherits the lock

The address is computed from the models and settings (`wanted.py`), so the same line leads to the same broker in every
process of a node, and other models or settings lead to another broker. A process that finds no broker starts it
(`starting.py`), at its first call or after the broker's death. A broker without workers for `idle_seconds` ends.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from worker_client import timeouts
from worker_client.client import Client, checked_retries
from worker_client.system.linux import check_linux

check_linux("A node broker")  # before what only Linux has is imported

from worker_client.node.connection import connection_to  # noqa: E402
from worker_client.node.wanted import Wanted  # noqa: E402

__all__ = ["shared"]


def shared(
    models: Mapping[str, Any],
    *,
    idle_seconds: float = 120.0,
    job: str | None = None,
    log: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    retries: int = 1,
    **settings: Any,
) -> Client:
    """A client of this node's broker for `models`. The first call starts the broker if none is running.

    `models` and `settings` are those of `broker.Broker`, except that models cannot be function objects. Processes that
    ask for the same models (with unchanged files), settings and `job`, as the same user and with the same onesession,
    share one broker. The process that starts it determines `idle_seconds` and `log`. `log` is a file; by default it is
    next to the socket and removed with the broker. `timeout` and `retries` are those of `worker_client.connect`.

    Nothing is started or sent before the first call, which waits for the broker within its timeout, as does every later
    call that finds none. The client is a value: pickled and sent to another node, it uses the broker of that node. All
    clients of the same broker in a process share one connection; `close` closes it for all of them, so do not call it.

    Raises InvalidInput. Calls raise BrokerUnavailable with the broker's own message if it cannot start.
    """
    wanted = Wanted.of(models, idle_seconds, job, log, settings)
    seconds = timeouts.of_environment() if timeout is None else timeouts.checked(timeout)
    return Client(connection_to(wanted), seconds, checked_retries(retries))


def __getattr__(name: str) -> ModuleType:
    """`worker_client.node.aio`, imported when it is first used, as `worker_client.aio` is."""
    if name == "aio":
        return importlib.import_module(f"worker_client.node.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
