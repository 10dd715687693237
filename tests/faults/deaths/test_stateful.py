"""A stateful signature when its broker dies: calls that were taken fail and are not run again, the others continue."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client
from tests import brokers
from tests.brokers import serving, wait_until
from worker_client import BrokerUnavailable, Client, aio

PATIENCE_S = 60.0
TOLD = (
    r"went away while the call was under way; the call may have been run and is not run again, because "
    r"model 'gated_stateful' version 1, signature 'serving_default' changes state, as its function declares"
)


@pytest.fixture
def path() -> Iterator[Path]:
    with brokers.folder() as place:
        yield place / "b.sock"


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    with worker_client.connect(path, timeout=PATIENCE_S, retries=3) as client:
        yield client


def gated(number: int) -> dict[str, np.ndarray]:
    return {"number": np.array([number], np.int64), "x": np.array([number], np.float32)}


def _request(path: Path, client: Client) -> Any:
    with client.model("gated_stateful").request(rows=1) as request:
        request["number"], request["x"] = [1], [1]
        return request.run()["y"].copy()


def _task(path: Path, client: Client) -> Any:
    async def program() -> Any:
        async with aio.connect(path, timeout=PATIENCE_S, retries=3) as mine:
            return await mine.model("gated_stateful").predict(gated(1))

    return asyncio.run(asyncio.wait_for(program(), PATIENCE_S))


WAYS: dict[str, Callable[[Path, Client], Any]] = {
    "predict": lambda path, client: client.model("gated_stateful").predict(gated(1)),
    "submit": lambda path, client: client.model("gated_stateful").submit(gated(1)).result(PATIENCE_S),
    "map": lambda path, client: list(client.model("gated_stateful").map([gated(1)])),
    "request": _request,
    "task": _task,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_was_taken_is_not_run_again(path: Path, client: Client, way: str) -> None:
    """The broker is killed while the model runs: the caller gets an error, and the next broker does not run the
    call."""
    with ThreadPoolExecutor(1) as threads:
        with serving("gated_stateful", path=path) as broker:
            call = threads.submit(WAYS[way], path, client)
            broker.gate.wait_for(1)
            broker.kill()
        with serving("gated_stateful", path=path) as broker:
            with pytest.raises(BrokerUnavailable, match=TOLD):
                call.result(PATIENCE_S)
            assert broker.gate.entries(1) == 0
            answer = client.model("gated_stateful").predict(gated(0))
            assert answer["order"] == [1], "the next broker has run nothing else"


def test_what_waits_in_the_broker_is_not_run_again_either(path: Path, client: Client) -> None:
    """A call that waits in the broker is not run again, because the worker cannot know how far it got."""
    model = client.model("gated_stateful")
    with serving("gated_stateful", path=path) as broker:
        futures = [model.submit(gated(n)) for n in (1, 2)]
        broker.gate.wait_for(1)
        wait_until(lambda: broker.status()["queues"]["gated_stateful"]["rows"] == 1, "the second to be taken")
        broker.kill()
    with serving("gated_stateful", path=path) as broker:
        broker.gate.open()
        for future in futures:
            assert isinstance(future.exception(PATIENCE_S), BrokerUnavailable)
        assert model.predict(gated(0))["order"] == [1]


def test_a_call_that_was_not_taken_is_run_on_the_next_broker(path: Path, client: Client) -> None:
    """Its broker was stopped before it looked into the ring."""
    model = client.model("gated_stateful")
    with serving("gated_stateful", path=path) as broker:
        assert model.predict(gated(0))["order"] == [1]
        broker.signal(signal.SIGSTOP)
        future = model.submit(gated(1))
        broker.kill()
    with serving("gated_stateful", path=path) as broker:
        broker.gate.open()
        answer = future.result(PATIENCE_S)
        assert (answer["y"], answer["order"], broker.gate.entries(1)) == ([2], [1], 1)
