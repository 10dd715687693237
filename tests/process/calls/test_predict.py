"""`predict` against a real broker: every dtype, rank and form of input gives the expected answer."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.arrays import FIXED_SIZE
from tests.brokers import TestBroker
from tests.process.models import BFLOAT16, ECHOES
from worker_client import Client, InvalidInput, aio
from worker_client.wire.dtypes import dtype_named

MODELS = ("double", "tell", "mixed", "add", "constant", *ECHOES)


def values(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random bits of a dtype; bool is 0 or 1."""
    kind = dtype_named(dtype)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    raw = rng.integers(0, 256, (*shape, kind.itemsize), dtype=np.uint8)
    return np.ascontiguousarray(raw).view(kind).reshape(shape)


@pytest.mark.parametrize("dtype", FIXED_SIZE)
def test_every_dtype_comes_back_bit_by_bit(client: Client, rng: np.random.Generator, dtype: str) -> None:
    """What goes in of a dtype, NaN payloads and infinities included, is what comes out."""
    x = values(rng, dtype, (5, 3))
    y = client.model(f"echo_{dtype}").predict(x)
    assert y.dtype == x.dtype
    assert y.tobytes() == x.tobytes()


@pytest.mark.parametrize("rank", range(9))
def test_every_rank_comes_back(client: Client, rng: np.random.Generator, rank: int) -> None:
    """Tensors of rank 0 to 8 keep shape and contents."""
    shape = tuple(int(n) for n in rng.integers(1, 4, rank))
    x = values(rng, "int32", shape)
    y = client.model("echo_int32").predict(x)
    assert y.shape == shape
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0), (2, 0, 5), (0, 0)])
def test_empty_tensors_cross(client: Client, shape: tuple[int, ...]) -> None:
    """An empty dimension, first or other, is a shape like any."""
    assert client.model("echo_float64").predict(np.zeros(shape)).shape == shape


def test_zero_rows_of_a_batching_model_give_zero_rows(client: Client) -> None:
    """0 rows in, 0 rows out, with the other dimensions as declared."""
    y = client.model("double").predict(np.zeros((0, 4), np.float32))
    assert y.shape == (0, 4)


def test_non_finite_numbers_pass_untouched(client: Client) -> None:
    """NaN and infinities are values, not mistakes."""
    x = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
    y = client.model("double").predict(x)
    np.testing.assert_array_equal(y, x * 2)
    assert np.signbit(y[0, 3])


def test_several_inputs_and_outputs_go_by_name(client: Client, rng: np.random.Generator) -> None:
    """A dict in any order gives a dict of every output, whatever order the model returned them in."""
    a = rng.integers(-9, 9, (6, 2)).astype(np.int32)
    b, flag = rng.random(6), rng.random((6, 1, 3)) < 0.5
    y = client.model("mixed").predict({"flag": flag, "a": a, "b": b})
    assert list(y) == ["total", "swapped", "none"]
    np.testing.assert_array_equal(y["total"], a.sum(1) + b)
    np.testing.assert_array_equal(y["swapped"], a[:, ::-1])
    np.testing.assert_array_equal(y["none"], ~flag[:, 0])


def test_scalars_and_models_without_inputs(client: Client) -> None:
    """Rank 0 inputs take Python numbers; a model without inputs takes an empty dict."""
    y = client.model("add").predict({"a": 2.5, "b": np.float64(4)})
    assert y == {"sum": np.asarray(6.5)}
    np.testing.assert_array_equal(client.model("constant").predict({})["y"], [1, 2, 3])


def test_form_of_the_answer_follows_the_form_of_the_input(client: Client) -> None:
    """An array in gives an array out; a dict in gives a dict out; lists take the signature's dtype."""
    model = client.model("double")
    want = np.full((1, 4), 6, np.float32)
    x = np.full((1, 4), 3, np.float32)
    np.testing.assert_array_equal(model.predict(x), want)
    np.testing.assert_array_equal(model.predict({"x": x})["y"], want)
    np.testing.assert_array_equal(model.predict([[3, 3, 3, 3]]), want)


@pytest.mark.parametrize("make", [np.asfortranarray, lambda x: x[::-1], lambda x: np.repeat(x, 2, 0)[::2]])
def test_any_memory_order_is_taken(client: Client, make: object) -> None:
    """Fortran order, negative strides and gaps change no answer."""
    x = make(np.arange(24, dtype=np.float32).reshape(6, 4))  # type: ignore[operator]
    np.testing.assert_array_equal(client.model("double").predict(x), x * 2)


def test_answers_are_private_copies(client: Client) -> None:
    """The caller may write to what it got, and the next call does not change it."""
    model = client.model("double")
    first = model.predict(np.ones((1, 4), np.float32))
    first += 1
    second = model.predict(np.zeros((1, 4), np.float32))
    np.testing.assert_array_equal(first, np.full((1, 4), 3))
    np.testing.assert_array_equal(second, np.zeros((1, 4)))


def test_shapes_alternate_on_one_slot(client: Client, rng: np.random.Generator) -> None:
    """More shapes than any cache remembers, in random order, never give the answer of another."""
    model = client.model("tell")
    for rows in rng.integers(0, 200, 600):
        x = rng.random((rows, 4), np.float32)
        row = rng.integers(0, 1 << 40, rows)
        y = model.predict({"x": x, "row": row})
        np.testing.assert_array_equal(y["y"], x * 2.0 + row[:, None])


def test_metadata_tells_names_dtypes_and_shapes(client: Client) -> None:
    """`models()` and `signature` say what the broker serves without a call."""
    info = client.models()["tell"]
    assert (info.name, info.version) == ("tell", 1)
    text = "serving_default(x: float32[?, 4], row: int64[?]) -> (y: float64[?, 4], rows_in_batch: int64[?])"
    assert str(client.model("tell").signature) == text
    assert client.model("echo_bfloat16").signature.inputs[0].dtype == BFLOAT16


@pytest.mark.parametrize("dtype", ["float64", "uint8", ">f4", "bool"])
def test_other_dtypes_of_the_same_kind_are_cast(client: Client, dtype: str) -> None:
    """On their way into the slot, whichever way that is; a strict handle refuses them."""
    model, x = client.model("double"), np.arange(12).reshape(3, 4).astype(dtype)
    want = 2 * x.astype("float32")
    for answer in (
        model.predict(x),
        model.predict({"x": x}),
        model.predict(x, batch_size=2),
        model.submit(x).result(60),
        *model.map([x]),
        asyncio.run(aio.connect(client.address).model("double").predict(x)),
    ):
        answer = answer["y"] if isinstance(answer, dict) else answer
        assert answer.dtype == np.float32
        np.testing.assert_array_equal(answer, want)
    with pytest.raises(InvalidInput, match="expects dtype float32"):
        client.model("double", strict=True).predict(x)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (np.zeros((1, 4), complex), "input 'x' expects dtype float32, got complex128"),
        ([[1e300] * 4], "cannot be converted: overflow"),
        (np.zeros((1, 5), np.float32), r"input 'x' expects shape \[\?, 4\], got \[1, 5\]"),
        (np.zeros(4, np.float32), r"pass x\[None\] for one row"),
        ({"z": 1}, "no input z"),
        ({}, "input x is missing"),
        ("text", "cannot be converted"),
        (None, "input 'x'"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_sent(
    client: Client, broker: TestBroker, inputs: object, says: str
) -> None:
    """InvalidInput names the input, what was expected and what came; the broker never hears of it."""
    before = broker.counters("double")
    with pytest.raises(InvalidInput, match=says) as caught:
        client.model("double").predict(inputs)
    assert isinstance(caught.value, ValueError)
    assert broker.counters("double") == before


def test_a_handle_says_what_it_calls(client: Client) -> None:
    """After a call the repr of a handle shows version and signature, with inputs and outputs."""
    model = client.model("double")
    assert [spec.name for spec in model.inputs] == ["x"]
    assert [spec.name for spec in model.outputs] == ["y"]
    told = "'double' version 1, serving_default(x: float32[?, 4]) -> (y: float32[?, 4])"
    assert repr(model) == f"<Model {told} at {client.address}>"
