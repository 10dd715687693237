"""Handles are values: copied or pickled, before calls and after them, they are what they were made of, and work."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider

import worker_client
from tests.brokers import TestBroker
from tests.process.workers.test_fork import ask
from tests.workers import in_child
from worker_client import BrokerUnavailable, Client, Model, Session, aio, otel
from worker_client.session import FeedsAndFetches

MODELS = ("double", "tell")
ROOT = Path(__file__).parents[3]
ROW = np.ones((1, 4), np.float32)
COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
}
OPTIONS_OF_CALLS: dict[str, Any] = {"timeout": 7.0, "priority": "bulk", "retries": 3}


@pytest.fixture(params=COPIES, ids=str)
def copied(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return COPIES[request.param]


@pytest.mark.parametrize("which", [{"version": 1}, {"version": "2"}, {"label": "stable"}, {"label": "2"}, {}])
def test_a_copy_has_all_that_a_model_was_made_of(copied: Callable[[Any], Any], which: dict[str, Any]) -> None:
    """Address, name, version or label, signature, timeout, priority, retries, strict; not who hears of its answers."""
    client = worker_client.connect("/nowhere/b.sock", timeout=5, retries=2)
    model = client.model("m", signature="s", strict=True, **which, **OPTIONS_OF_CALLS)
    model.on_answer = print
    made: Model = copied(model)
    assert made.options == model.options == ("m", model.version, "s", 7.0, "bulk", 3, True)
    assert made.on_answer is None
    assert repr(made) == repr(model)
    tasks = aio.connect("/nowhere/b.sock").model("m", signature="s", strict=True, **which, **OPTIONS_OF_CALLS)
    assert copied(tasks)._model.options == tasks._model.options == model.options


def test_a_copy_has_all_that_clients_and_sessions_were_made_of(copied: Callable[[Any], Any]) -> None:
    """The client's options too, and `float("inf")`, and no time-out at all, which says that the model's own holds."""
    for timeout, expected in ((None, None), (5, 5.0), (float("inf"), float("inf"))):
        client = worker_client.connect("/nowhere/b.sock", timeout=timeout, retries=2, wait="block")
        made: Client = copied(client)
        assert (made.address, made.timeout, made.retries) == ("/nowhere/b.sock", expected, 2)
        session = client.session("m", **OPTIONS_OF_CALLS)
        assert copied(session)._settings == session._settings == (7.0, "bulk", 3)
        tasks: aio.AsyncClient = copied(aio.connect("/nowhere/b.sock", timeout=timeout, retries=2))
        assert (tasks._client.timeout, tasks._client.retries) == (expected, 2)
    endpoint = FeedsAndFetches(client._connection, "m", 1.0, "bulk", 0, ("x:0",), ("y:0",))
    assert copied(endpoint).options == endpoint.options == ("m", 1.0, "bulk", 0, ("x:0",), ("y:0",))
    function = copied(Session(client._connection, "m", 1.0, "bulk", 0).make_callable(["y:0"], ["x:0"]))
    assert function._endpoint.options == endpoint.options


def test_copies_call_before_and_after_their_originals(
    broker: TestBroker, copied: Callable[[Any], Any]
) -> None:
    """Copies share their original's channel, those that were pickled have one together; closed is it until the next
    call."""
    with worker_client.connect(broker.address) as client:
        early = copied(client.model("tell"))
        assert ask(early, 1, 2) == ask(client.model("tell"), 2, 2) == 2
        late, other = copied(client.model("tell")), copied(client)
        assert ask(late, 3, 2) == ask(other.model("tell"), 4, 2) == 2
        traced = copied(otel.traced(late, TracerProvider()))
        assert (traced.predict({"x": ROW, "row": np.array([1])})["y"] == 3).all()
        pickled = other._connection is not client._connection
        assert broker.workers().count(os.getpid()) == 1 + pickled
        other.close()
        assert ask(late, 5, 2) == 2
        other.close()


def test_tasks_copies(broker: TestBroker, copied: Callable[[Any], Any]) -> None:
    """Those of clients for event loops are one client in a process."""
    original = aio.connect(broker.address)

    async def calls() -> None:
        client: aio.AsyncClient = copied(original)
        models = [copied(client.model("double")) for _ in range(3)]
        answers = await asyncio.gather(*(model.predict(ROW) for model in [*models, client.model("double")]))
        assert all((answer == 2).all() for answer in answers)
        assert broker.workers().count(os.getpid()) == 1
        await client.close()

    asyncio.run(calls())


def test_a_copy_is_as_safe_in_children_as_its_original(broker: TestBroker) -> None:
    """Parent and child go on with one that was made after calls, each on a channel of its own."""
    with worker_client.connect(broker.address) as client:
        ask(client.model("tell"), 1, 1)
        made: Model = pickle.loads(pickle.dumps(client.model("tell")))
        ask(made, 2, 1)
        assert in_child(ask, made, 3) == in_child(ask, copy.deepcopy(made), 4) == 50
        assert ask(made, 5) == 50
        pickle.loads(pickle.dumps(client)).close()


def test_a_copy_in_a_process_without_a_broker_says_so() -> None:
    """Nothing is asked of a broker before the first call, which tells where it looked."""
    model = pickle.loads(pickle.dumps(worker_client.connect("/nowhere/b.sock").model("m")))
    with pytest.raises(BrokerUnavailable, match="/nowhere/b.sock"):
        model.predict(ROW)


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver", "loky", "closure", "loops"])
def test_pools_are_given_handles_as_arguments(broker: TestBroker, way: str) -> None:
    """multiprocessing of every start method, joblib, functions as PySpark and Dask pickle them, event loops."""
    program = [sys.executable, "-m", "tests.process.copies_program", way, broker.address]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "right\n"), ended.stderr
