"""When a worker is gone its memory is freed, whatever the worker did, even without the garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving, wait_until
from tests.workers import worker
from worker_client import BrokerError, Client

MODELS = {
    name: {"source": f"tests.process.uncollected_models:{name}", "batching": True}
    for name in ("light", "heavy", "widen", "texts", "fewer")
}


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    with serving(models=MODELS) as running:
        yield running


def rows(count: int, width: int = 4) -> np.ndarray:
    return np.ones((count, width), np.float32)


def futures(name: str, *inputs: Any, timeout: float = 60) -> Callable[[Client], None]:
    def use(client: Client) -> None:
        model, begun = client.model(name), []
        with contextlib.suppress(BrokerError):
            begun.extend(model.submit(each, timeout) for each in inputs)
        for future in begun:
            with contextlib.suppress(BrokerError):
                future.result()

    return use


def event_loop(client: Client) -> None:
    async def go() -> None:
        async with worker_client.aio.connect(client._connection.path) as other:
            model = other.model("light")
            await asyncio.gather(*[model.predict(rows(2000 + number % 3)) for number in range(30)])

    asyncio.run(go())


def left_alone(client: Client) -> None:
    """Calls of all kinds whose answers the worker does not live to see."""
    for name in ("light", "heavy"):
        model = client.model(name)
        kept.extend(model.submit(rows(1000)) for _ in range(6))


kept: list[Any] = []
BAD = np.full((500, 4), -1, np.float32)

USES: dict[str, Callable[[Client], None]] = {
    "one batch": futures("light", *[rows(32, 10_000)] * 8),
    "parts, light": futures("light", *[rows(3200, 50)] * 12),
    "parts, heavy": futures("heavy", *[rows(1000, 50)] * 6),
    "parts that fail": futures("light", rows(300), BAD, rows(300), BAD),
    "parts that fail, heavy": futures("heavy", BAD, rows(200), BAD),
    "parts too late": futures("heavy", *[rows(600)] * 8, timeout=0.02),
    "run whole after all": futures("fewer", rows(300), rows(301)),
    "large answers": futures("widen", rows(3), rows(100), rows(1)),
    "strings": futures("texts", ["x" * 100_000] * 3, ["y"] * 500, ["z" * 50_000] * 200),
    "an event loop": event_loop,
    "not waited for": left_alone,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_nothing_of_a_gone_worker_is_kept(broker: TestBroker, use: Callable[[Client], None]) -> None:
    """After SIGKILL, with no other event: no segment of the worker's is mapped any more, and none is counted."""

    def body() -> None:
        use(worker_client.connect(broker.address))
        os.kill(os.getpid(), signal.SIGKILL)

    before = len(broker.mappings())
    with worker(body) as child:
        assert child.wait() == -signal.SIGKILL
    wait_until(lambda: len(broker.mappings()) == before, "the worker's memory unmapped", patience_s=10)
    assert broker.shared_memory_bytes() == 0
