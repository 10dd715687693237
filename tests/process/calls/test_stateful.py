"""A stateful signature: its requests run one after the other, each by itself and once, each worker's in order."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving
from tests.process.models import BAD_VALUE, SOURCES
from worker_client import Client, ModelFailed

MODELS: tuple[str, ...] = ()
SETTINGS = {"max_concurrency": 4, "max_delay": 0.001, "allowed_batch_sizes": [4, 64]}
OPTIONS = {"models": {"gated_stateful": {"source": SOURCES["gated_stateful"], **SETTINGS}}}


def rows(count: int, number: int = 0, x: float = 1.0) -> dict[str, np.ndarray]:
    return {"number": np.full(count, number), "x": np.full(count, x, np.float32)}


def test_nothing_has_run_it_before_the_first_call(client: Client) -> None:
    """A stateful signature is not run before its first call."""
    assert client.model("gated_stateful").predict(rows(1))["order"] == [1]
    assert "stateful" in str(client.models()["gated_stateful"].signatures["serving_default"])


def test_requests_of_many_workers_run_one_at_a_time(broker: TestBroker) -> None:
    """With four threads for the model and eight callers, each run is alone, takes what one request has, and counts."""
    before = broker.counters("gated_stateful")["runs"]

    def call(number: int) -> list[int]:
        with worker_client.connect(broker.address) as client:
            model = client.model("gated_stateful")
            answers = [model.predict(rows(1 + (number + n) % 3)) for n in range(20)]
        assert all(set(answer["rows_in_batch"]) == {len(answer["y"])} for answer in answers)
        return [int(answer["order"][0]) for answer in answers]

    with ThreadPoolExecutor(8) as threads:
        orders = list(threads.map(call, range(8)))
    assert all(mine == sorted(mine) for mine in orders)
    assert len({order for mine in orders for order in mine}) == 160
    assert broker.counters("gated_stateful")["runs"] - before == 160


def test_requests_of_one_worker_keep_their_order(broker: TestBroker, client: Client) -> None:
    """Requests of one worker never overtake one another, whatever their shapes, even if one waits in the model."""
    model = client.model("gated_stateful")
    futures = [model.submit(rows(1, number=1)), *[model.submit(rows(1 + n % 5)) for n in range(30)]]
    broker.gate.wait_for(1)
    broker.gate.open(1)
    orders = [int(future.result(30)["order"][0]) for future in futures]
    assert orders == list(range(orders[0], orders[0] + 31))


def test_a_large_request_is_not_split(client: Client) -> None:
    """A large request to a stateful signature is one run of all its rows."""
    answer = client.model("gated_stateful").predict(rows(1000))
    assert set(answer["rows_in_batch"]) == {1000}
    assert len(set(answer["order"])) == 1


def test_a_run_that_fails_is_not_run_again(client: Client) -> None:
    """After a failed run the next run is for the next request."""
    model = client.model("gated_stateful")
    (before,) = model.predict(rows(1))["order"]
    futures = [model.submit(rows(1, x=x)) for x in (1.0, BAD_VALUE, 1.0)]
    assert futures[0].result(30)["order"] == [before + 1]
    with pytest.raises(ModelFailed, match=f"run {before + 2} is unlucky"):
        futures[1].result(30)
    assert futures[2].result(30)["order"] == [before + 3]


def test_it_is_told(broker: TestBroker) -> None:
    """`onesession models`, `onesession stats` and the counters show that a signature is stateful."""

    def said(*arguments: str) -> str:
        command = [sys.executable, "-m", "broker", *arguments, "--name", broker.address]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    (signature,) = json.loads(said("models", "--json"))["gated_stateful"]["signatures"]
    assert signature["stateful"] == "changes state, as its function declares"
    assert "stateful, run for its callers only" in " ".join(said("models").split())
    (stats,) = json.loads(said("stats", "--json"))["signatures"]
    assert stats["stateful"] == signature["stateful"]
    assert broker.counters("gated_stateful")["light"] is False


def test_warmup_false_calls_no_function() -> None:
    """A model with `warmup=False` is not run before its first call, but its requests are batched as usual."""
    with serving(models={"gated": {"source": SOURCES["gated"], "warmup": False}}) as broker:
        (signature,) = [s for m in _described(broker) for s in m["signatures"]]
        assert (signature["note"], signature["batchable"]) == (
            "run for its callers only: warmup is false",
            True,
        )
        with worker_client.connect(broker.address) as client:
            assert client.model("gated").predict(rows(1))["run"] == [0]


def _described(broker: TestBroker) -> list[dict]:
    from broker.control_plane.query import ask

    return list(ask(broker.address, "models")["models"].values())
