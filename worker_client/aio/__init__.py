"""The client for asyncio and uvloop: the same calls, awaited. No call blocks the loop or takes a thread.

client = worker_client.aio.connect()
y = await client.model("digits").predict(x)
"""

from worker_client.aio.client import AsyncClient, AsyncModel, connect
from worker_client.aio.request import AsyncRequest

__all__ = ["AsyncClient", "AsyncModel", "AsyncRequest", "connect"]
