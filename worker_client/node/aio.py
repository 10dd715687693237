"""The node's broker for asyncio: `node.shared`, with the client of `worker_client.aio`.

client = worker_client.node.aio.shared({"digits": "/models/digits"}, idle_seconds=120)
y = await client.model("digits").predict(x)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from worker_client import client as sync
from worker_client import timeouts
from worker_client.aio.client import AsyncClient
from worker_client.ipc.waiting import WaitMode
from worker_client.node.connection import NodeConnection
from worker_client.node.wanted import Wanted

__all__ = ["shared"]

_Key = tuple[Wanted, float | None, int]


def shared(
    models: Mapping[str, Any],
    *,
    idle_seconds: float = 120.0,
    job: str | None = None,
    log: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    retries: int = 1,
    **settings: Any,
) -> AsyncClient:
    """Like `node.shared`. Does not contact the broker yet. Calls with the same arguments in the same thread, and so in
    the same loop, return the same client."""
    wanted = Wanted.of(models, idle_seconds, job, log, settings)
    seconds = timeouts.of_environment() if timeout is None else timeouts.checked(timeout)
    return _client_of_this_thread((wanted, seconds, sync.checked_retries(retries)))


class _NodeClient(AsyncClient):
    """Pickles as the models and settings, so on another node it uses the broker of that node."""

    def __init__(self, key: _Key) -> None:
        wanted, timeout, retries = key
        connection = NodeConnection(wanted, wanted.path(), WaitMode.BLOCK)
        super().__init__(sync.Client(connection, timeout, retries))
        self._key = key

    def __reduce__(self) -> tuple[Callable[[_Key], AsyncClient], tuple[_Key]]:
        return _client_of_this_thread, (self._key,)


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.clients: dict[_Key, AsyncClient] = {}


_of_thread = _OfThread()


def _client_of_this_thread(key: _Key) -> AsyncClient:
    client = _of_thread.clients.get(key)
    if client is None:
        client = _of_thread.clients[key] = _NodeClient(key)
    return client
