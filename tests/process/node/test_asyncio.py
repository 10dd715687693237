"""The node's broker for asyncio."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from tests import nodes
from tests.nodes import RIGHT, Node
from tests.process.node.test_sharing import SLOW
from worker_client import BrokerUnavailable, DeadlineExceeded
from worker_client import node as node_brokers
from worker_client.node.aio import shared

X = np.full((2, 4), 3, np.float32)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    with nodes.node() as node:
        monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(node.place))
        monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
        yield node


def test_tasks_start_one_broker_that_others_share_and_that_ends(here: Node) -> None:
    async def body() -> None:
        async with shared(nodes.DOUBLE, idle_seconds=0.5) as client:
            answers = await asyncio.gather(*(client.model("double").predict(X) for _ in range(5)))
            assert all(y.tolist() == RIGHT for y in answers)
            with node_brokers.shared(nodes.DOUBLE) as other:
                assert other.model("double").predict(X).tolist() == RIGHT
            assert len(here.brokers()) == 1

    asyncio.run(body())
    here.wait_for_end()


def test_the_next_call_starts_a_broker_that_was_killed(here: Node) -> None:
    async def body() -> None:
        async with shared(nodes.DOUBLE, idle_seconds=0.5) as client:
            double = client.model("double")
            await double.predict(X)
            (before,) = here.brokers()
            os.kill(before, signal.SIGKILL)
            assert (await double.predict(X)).tolist() == RIGHT
            assert here.brokers() != [before]

    asyncio.run(body())
    here.wait_for_end()


def test_it_is_a_value(here: Node) -> None:
    client = shared(nodes.DOUBLE, timeout=5)
    assert pickle.loads(pickle.dumps(client)) is client
    assert shared(nodes.DOUBLE, timeout=5) is client
    assert shared(nodes.DOUBLE, timeout=5, job="mine") is not client


def test_the_loop_goes_on_while_a_broker_starts_and_the_deadline_holds(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONESESSION_TEST_GATE", os.fspath(here.place))

    async def body() -> None:
        async with shared({"slow": SLOW}, idle_seconds=0.5, timeout=1) as client:
            call = client.model("slow").submit(X)
            for _ in range(10):
                await asyncio.sleep(0)
            assert not call.done()
            with pytest.raises(DeadlineExceeded, match="being started"):
                await call

    asyncio.run(body())


def test_the_error_is_the_brokers_own(here: Node) -> None:
    async def body() -> None:
        async with shared({"broken": "tests.process.models:no_such_model"}) as client:
            with pytest.raises(BrokerUnavailable, match="no_such_model"):
                await client.model("broken").predict(X)

    asyncio.run(body())
