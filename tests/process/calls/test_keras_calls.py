"""`predict` and `model(x)` with Keras's arguments: what they mean for the answer, and what is refused."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.brokers import TestBroker
from worker_client import Client, DeadlineExceeded, InvalidInput, aio

MODELS = ("double", "tell", "gated", "consume", "add")
ROWS = np.arange(40, dtype=np.float32).reshape(10, 4)
WITH_NUMBERS = {"x": ROWS, "row": np.arange(10)}


def batches_of(answer: dict[str, np.ndarray]) -> list[int]:
    """The requests that the rows of `tell` came in, as each row says how many ran together with it."""
    return [int(rows) for rows in answer["rows_in_batch"]]


@pytest.mark.parametrize("batch_size", [1, 3, 9, 10, 11, np.int64(4)])
def test_batches_come_back_as_one_answer(client: Client, batch_size: int) -> None:
    """Every row once and in its place, whether or not the batch size divides their number."""
    answer = client.model("double").predict(ROWS, batch_size=batch_size, verbose=0)
    np.testing.assert_array_equal(answer, 2 * ROWS)
    assert answer.dtype == np.float32
    told = client.model("tell").predict(WITH_NUMBERS, batch_size)
    np.testing.assert_array_equal(told["y"], ROWS * 2.0 + np.arange(10)[:, None])


def test_each_batch_is_a_request(client: Client, broker: TestBroker) -> None:
    """There are as many as the rows need, and one if there is no batch size."""
    client.model("tell").predict(WITH_NUMBERS)
    before = broker.counters("tell")["requests"]
    client.model("tell").predict(WITH_NUMBERS, batch_size=4)
    assert broker.counters("tell")["requests"] == before + 3
    client.model("tell").predict(WITH_NUMBERS, batch_size=10)
    assert broker.counters("tell")["requests"] == before + 4


def test_steps_end_early(client: Client) -> None:
    """`steps` counts batches. Without a size they are all the rows; more than there are is no error."""
    model = client.model("double")
    many = np.tile(ROWS, (10, 1))
    np.testing.assert_array_equal(model.predict(many, batch_size=4, steps=2), 2 * many[:8])
    np.testing.assert_array_equal(model.predict(many, steps=3), 2 * many)
    np.testing.assert_array_equal(model.predict(many, batch_size=64, steps=9), 2 * many)


def test_few_requests_are_in_flight(client: Client, broker: TestBroker) -> None:
    """A large input does not fill the broker's queue: what waits at the gate is bounded, and all is answered."""
    inputs = {"number": np.full(50, 77), "x": np.arange(50, dtype=np.float32)}
    most: list[int] = []

    def look() -> None:
        broker.gate.wait_for(77)
        most.append(sum(worker["in_flight"] for worker in broker.status()["workers"]))
        broker.gate.open(77)

    with ThreadPoolExecutor(1) as pool:
        looked = pool.submit(look)
        answer = client.model("gated").predict(inputs, batch_size=1)
        looked.result()
    assert 1 <= most[0] <= 8
    np.testing.assert_array_equal(answer["y"], 2 * inputs["x"])


def test_the_timeout_is_the_whole_calls(client: Client, broker: TestBroker) -> None:
    """And what had not run when it passed is cancelled."""
    inputs = {"number": np.full(4, 78), "x": np.ones(4, np.float32)}
    with pytest.raises(DeadlineExceeded):
        client.model("gated").predict(inputs, batch_size=1, timeout=0.1)
    broker.gate.open(78)
    np.testing.assert_array_equal(client.model("double").predict(ROWS, batch_size=3), 2 * ROWS)


def test_a_list_of_the_one_input(client: Client) -> None:
    """`predict([x])` means x where x alone fits; a list of rows stays one array; several inputs have no order."""
    model = client.model("double")
    np.testing.assert_array_equal(model.predict([ROWS]), 2 * ROWS)
    np.testing.assert_array_equal(model.predict([ROWS], batch_size=3), 2 * ROWS)
    np.testing.assert_array_equal(model.predict(ROWS.tolist(), batch_size=3), 2 * ROWS)
    with pytest.raises(InvalidInput, match=r"has 2 inputs, so pass a dict with 'x': .*'row': .*; got list"):
        client.model("tell").predict([ROWS, np.arange(10)])


def test_models_are_called(client: Client) -> None:
    """`model(x)` and `model(x, training=False)` are `predict(x)`; training is not served."""
    model = client.model("double")
    np.testing.assert_array_equal(model(ROWS), 2 * ROWS)
    np.testing.assert_array_equal(model(ROWS, training=False), 2 * ROWS)
    with pytest.raises(InvalidInput, match="training=True is not supported"):
        model(ROWS, training=True)
    with pytest.raises(InvalidInput, match="mask is not an input"):
        model(ROWS, mask=ROWS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"batch_size": 0.5}, "got 0.5; a timeout is given by name"),
        ({"batch_size": "all"}, "got 'all'"),
        ({"steps": -1}, "steps must be an integer >= 1"),
        ({"callbacks": [print]}, r"predict\(callbacks=...\) is supported only by Keras, .*model.map"),
        ({"workers": 4, "use_multiprocessing": True}, r"predict\(workers=...\) .*max_in_flight"),
    ],
)
def test_what_is_refused(client: Client, arguments: dict[str, Any], message: str) -> None:
    """The error names the argument and what to do in its place; nothing is sent."""
    with pytest.raises(InvalidInput, match=message):
        client.model("double").predict(ROWS, **arguments)


def test_unknown_arguments_are_type_errors(client: Client) -> None:
    """As of any function: a misspelt timeout is not ignored."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'timout'"):  # codespell:ignore timout
        client.model("double").predict(ROWS, timout=3)  # codespell:ignore timout


def test_models_without_rows(client: Client) -> None:
    """What has no rows cannot be cut, and says why; a size that all fits into asks for no cut."""
    data = np.ones(10, np.uint8)
    with pytest.raises(InvalidInput, match=r"model 'consume' version 1, .* cannot be run in batches of 4"):
        client.model("consume").predict(data, batch_size=4)
    assert client.model("consume").predict(data, batch_size=32)["n"] == 10
    assert client.model("add").predict({"a": 1.0, "b": 2.0}, batch_size=32)["sum"] == 3


def test_inputs_of_different_length(client: Client) -> None:
    with pytest.raises(InvalidInput, match="the same number of rows, got 'x' 10, 'row' 9"):
        client.model("tell").predict({"x": ROWS, "row": np.arange(9)}, batch_size=2)


def test_in_an_event_loop(broker: TestBroker) -> None:
    """The same arguments, the same answers and the same errors."""

    async def program() -> None:
        async with aio.connect(broker.address) as client:
            model = client.model("double")
            np.testing.assert_array_equal(await model.predict(ROWS, batch_size=3, verbose=0), 2 * ROWS)
            np.testing.assert_array_equal(await model.predict(ROWS, batch_size=3, steps=1), 2 * ROWS[:3])
            with pytest.raises(InvalidInput, match="callbacks"):
                await model.predict(ROWS, callbacks=[print])

    asyncio.run(program())
