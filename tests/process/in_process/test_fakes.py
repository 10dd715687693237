"""`testing.fake`: canned answers, recorded calls, errors and delays, without broker and TensorFlow."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client
from worker_client import (
    BrokerUnavailable,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    ModelNotFound,
    Overloaded,
    aio,
    testing,
)

ROOT = Path(__file__).parents[3]
SIDES: dict[str, Any] = {"inputs": {"x": ("float32", [None, 4])}, "outputs": {"y": ("float32", [None, 2])}}
ROWS = np.zeros((3, 4), np.float32)


def fake(answer: Any, **more: Any) -> testing.FakeClient:
    return testing.fake({"digits": {**SIDES, "answer": answer, **more}})


@pytest.mark.parametrize(
    "answer", [[0.25, 1], np.array([[0.25, 1.0]], np.float32), {"y": np.array([0.25, 1.0])}]
)
def test_one_row_is_the_answer_to_each(answer: Any) -> None:
    """As a list, an array of a row or without rows, or by name; in the dtype of the signature."""
    with fake(answer) as client:
        y = client.model("digits").predict(ROWS)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, [[0.25, 1]] * 3)


def test_calls_are_recorded_as_the_model_gets_them() -> None:
    """Casts and names included; what the app does to its array afterwards changes nothing."""
    with fake([0, 1]) as client:
        x = np.ones((2, 4))
        client.model("digits").predict(x)
        x[...] = 9
        client.model("digits").submit({"x": [[5, 6, 7, 8]]}).result()
        assert [(call.model, call.signature) for call in client.calls] == [("digits", "serving_default")] * 2
        np.testing.assert_array_equal(client.calls[0].inputs["x"], np.ones((2, 4), np.float32))
        assert client.calls[1].inputs["x"].dtype == np.float32


def test_wrong_inputs_never_reach_it() -> None:
    """The client's own checks refuse them."""
    with fake([0, 1]) as client:
        with pytest.raises(InvalidInput, match=r"input 'x' expects shape \[\?, 4\], got \[1, 5\]"):
            client.model("digits").predict(np.zeros((1, 5)))
        with pytest.raises(ModelNotFound, match="has no model 'faces'; it serves digits"):
            client.model("faces").predict(ROWS)
        assert client.calls == []


@pytest.mark.parametrize(
    "error", [Overloaded, DeadlineExceeded, BrokerUnavailable, ModelNotFound, ModelFailed]
)
def test_every_error_of_a_broker_can_be_raised(error: type[worker_client.BrokerError]) -> None:
    """A class or an object, in all ways to call."""
    with fake([error, error("no more"), [0, 1]]) as client:
        model = client.model("digits")
        with pytest.raises(error):
            model.predict(ROWS)
        with pytest.raises(error, match="no more"):
            model.submit(ROWS).result()
        np.testing.assert_array_equal(model.predict(ROWS), [[0, 1]] * 3)
        np.testing.assert_array_equal(model.predict(ROWS), [[0, 1]] * 3)


def test_functions_compute_answers() -> None:
    """By position, as models are called; what they raise is ModelFailed, and so are answers that do not fit."""
    with fake([lambda x: x[:, :2] + 1, lambda x: 1 / 0, lambda x: np.zeros((len(x), 3))]) as client:
        model = client.model("digits")
        np.testing.assert_array_equal(model.predict(ROWS), np.ones((3, 2)))
        with pytest.raises(ModelFailed, match="ZeroDivisionError: division by zero"):
            model.predict(ROWS)
        with pytest.raises(ModelFailed, match=r"has the shape \[3, 3\], but output 'y' is float32\[\?, 2\]"):
            model.predict(ROWS)


def test_delays_end_at_deadlines() -> None:
    """A call whose timeout is shorter gets DeadlineExceeded; one that has time gets its answer."""
    with fake([0, 1], delay=60.0) as client, pytest.raises(DeadlineExceeded):
        client.model("digits").predict(ROWS, timeout=0.05)
    with fake([0, 1], delay=0.01) as client:
        np.testing.assert_array_equal(client.model("digits").predict(ROWS), [[0, 1]] * 3)


def test_strings_and_several_outputs() -> None:
    """Strings are what a broker gives: bytes; several outputs are a dict, or a tuple in their order."""
    sides = {
        "inputs": {"text": ("string", [None])},
        "outputs": {"words": ("string", [None]), "n": ("int64", [None])},
    }
    with testing.fake(
        {"split": {**sides, "answer": lambda text: (text, [len(each) for each in text])}}
    ) as client:
        found = client.model("split").predict({"text": ["one", "three"]})
    assert found["words"].tolist() == [b"one", b"three"]
    assert found["n"].tolist() == [3, 5]


def test_an_app_is_redirected(monkeypatch: pytest.MonkeyPatch) -> None:
    """$BROKER_ADDRESS leads its `connect()`, and that of asyncio, to the fake."""
    client = fake([0, 1], version=3)
    monkeypatch.setenv("BROKER_ADDRESS", client.address)
    assert worker_client.connect().model("digits").current_version == 3

    async def program() -> Any:
        async with aio.connect() as of_loop:
            return await of_loop.model("digits").predict(ROWS)

    np.testing.assert_array_equal(asyncio.run(program()), [[0, 1]] * 3)
    assert len(client.calls) == 1
    client.close()


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ({}, "a fake's models must be a dict such as"),
        (
            {"m": {"inputs": {}, "outputs": {}}},
            "a fake's model 'm' must be a dict of inputs, outputs, answer",
        ),
        (
            {"m": {**SIDES, "answer": 1, "delays": 1}},
            "a fake's model 'm' must be a dict of inputs, outputs, answer",
        ),
        (
            {"m": {**SIDES, "answer": [1, 2, 3]}},
            r"has the shape \[1, 3\], but output 'y' is float32\[\?, 2\]",
        ),
        ({"m": {**SIDES, "answer": {"z": [1, 2]}}}, r"has the outputs \['z'\], not \['y'\]"),
        ({"m": {**SIDES, "answer": "text"}}, "is <U4|is str"),
        (
            {"m": {**SIDES, "inputs": {"x": "float32"}, "answer": [1, 2]}},
            r"'x' must be \(dtype, shape\) such as",
        ),
    ],
)
def test_what_cannot_be_is_told_at_once(models: Any, says: str) -> None:
    """A mistake in a test shows where the fake is made."""
    with pytest.raises(InvalidInput, match=says):
        testing.fake(models)


def test_it_loads_no_broker() -> None:
    """Neither the broker package nor TensorFlow is imported."""
    program = f"""
import sys, numpy as np
from worker_client import testing
client = testing.fake({{"digits": {{**{SIDES!r}, "answer": [0, 1]}}}})
print(client.model("digits").predict(np.zeros((1, 4))).tolist(), sorted({{"broker", "tensorflow"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[[0.0, 1.0]] []\n", "")
