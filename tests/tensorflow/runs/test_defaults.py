"""Inputs whose default TensorFlow has written into the SavedModel may be left out, however a model is called."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.brokers import TestBroker, serving
from tests.commands import commands
from worker_client import Client, InvalidInput, aio

X = np.arange(20, dtype=np.float32).reshape(10, 2)
OFFSET = np.float32([[1, 2]])
TEXTS = np.array([b"a", b"bc"], object)


@pytest.fixture(scope="module")
def broker(saved_models: Mapping[str, Path]) -> Iterator[TestBroker]:
    with serving(models={"m": saved_models["defaults"]}) as running:
        yield running


def test_a_scalar_is_filled_in(client: Client) -> None:
    """In each way to call; what is given goes first, and an array stands for the other input."""
    model = client.model("m")
    wanted = X / 2
    np.testing.assert_array_equal(model.predict({"x": X})["y"], wanted)
    np.testing.assert_array_equal(model.predict(X), wanted)
    np.testing.assert_array_equal(model(X), wanted)
    np.testing.assert_array_equal(model.submit(X).result(60), wanted)
    np.testing.assert_array_equal(model.predict({"x": X, "temperature": 4})["y"], X / 4)
    np.testing.assert_array_equal(model.predict(X, batch_size=3), wanted)
    np.testing.assert_array_equal(model.predict({"x": X}, steps=5)["y"], wanted)
    for answer in model.map([X, {"x": X}]):
        np.testing.assert_array_equal(answer["y"] if isinstance(answer, dict) else answer, wanted)
    with pytest.raises(InvalidInput, match="cannot be run in batches"):
        model.predict({"x": X, "temperature": 4}, batch_size=3)


def test_a_request_in_place_holds_the_default(client: Client) -> None:
    """At first; what the caller writes then stays."""
    with client.model("m").request(rows=10) as request:
        request["x"] = X
        assert request["temperature"] == 2
        np.testing.assert_array_equal(request.run()["y"], X / 2)
        request["temperature"] = 5
        np.testing.assert_array_equal(request.run()["y"], X / 5)
    with client.model("m").request(rows=10) as request:
        assert request["temperature"] == 2
    with client.model("m", signature="joined").request(rows=2) as request:
        request["text"] = TEXTS
        assert request.run()["joined"].tolist() == ["né:a".encode(), "né:bc".encode()]


def test_the_client_in_an_event_loop_does_so_too(broker: TestBroker) -> None:
    async def call() -> None:
        async with aio.connect(broker.address) as client:
            model = client.model("m")
            np.testing.assert_array_equal(await model.predict(X), X / 2)
            np.testing.assert_array_equal(await model.predict(X, batch_size=4), X / 2)
            async with model.request(rows=10) as request:
                request["x"] = X
                result = await request.run()
                np.testing.assert_array_equal(result["y"], X / 2)

    asyncio.run(call())


def test_texts_and_several_defaults(client: Client) -> None:
    """Each has its own; some may be given."""
    model = client.model("m", signature="joined")
    assert model.predict({"text": TEXTS})["joined"].tolist() == ["né:a".encode(), "né:bc".encode()]
    assert model.predict(TEXTS)["counted"].tolist() == [b"7a", b"7bc"]
    answer = model.predict({"text": TEXTS, "counts": [1, 1]})
    assert answer["counted"].tolist() == [b"2a", b"2bc"]
    assert answer["joined"].tolist() == ["né:a".encode(), "né:bc".encode()]


def test_a_default_of_rows_is_taken_as_it_is(client: Client) -> None:
    """TensorFlow feeds it whole, one row to many if need be, and so does the broker."""
    model = client.model("m", signature="shifted")
    np.testing.assert_array_equal(model.predict(X), X + OFFSET)
    np.testing.assert_array_equal(model.predict(X[:1]), X[:1] + OFFSET)


def test_requests_with_other_values_are_never_joined(client: Client) -> None:
    """A scalar belongs to one request; under load each answer still has its own, defaults beside values."""
    model = client.model("m")
    values = [None, 1.0, 2.0, 3.0, 4.0] * 20
    calls = [
        {"x": X + n} | ({} if value is None else {"temperature": value}) for n, value in enumerate(values)
    ]
    for n, (value, future) in enumerate(zip(values, [model.submit(call) for call in calls])):
        np.testing.assert_array_equal(future.result(60)["y"], (X + n) / np.float32(value or 2))


def test_a_large_default_must_be_given(client: Client) -> None:
    """It would go to every worker with each signature."""
    model = client.model("m", signature="large")
    with pytest.raises(InvalidInput, match="input table is missing"):
        model.predict({"x": X})
    table = np.arange(100_000, dtype=np.float32)
    np.testing.assert_array_equal(model.predict({"x": X, "table": table})["y"], X + table[-1])


def test_the_signature_shows_it(broker: TestBroker, client: Client, tmp_path: Path) -> None:
    """In Python, in `onesession models`, and as JSON."""
    told = "serving_default(temperature: float32[] = 2.0, x: float32[?, 2]) -> (y: float32[?, 2])"
    assert str(client.model("m").signature) == told
    assert "prefix: string[] = 'né:'" in str(client.model("m", signature="joined").signature)
    with commands(tmp_path) as start:
        status, out, _ = start("models", "--name", broker.address).end()
        assert (status, "temperature: float32[] = 2.0" in " ".join(out.split())) == (0, True), out
        status, out, _ = start("models", "--json", "--name", broker.address).end()
        assert status == 0
        assert json.loads(out)["m"]["signatures"]
