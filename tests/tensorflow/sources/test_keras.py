"""`client.model(...)` beside the Keras model itself, called in the same ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.brokers import TestBroker, serving
from worker_client import Client, InvalidInput

keras = tf.keras
X = np.random.default_rng(5).standard_normal((70, 4)).astype(np.float32)
NEAR = {"rtol": 1e-5, "atol": 1e-6}
"""The last bits depend on the size of the batch that a row is run in."""


def one() -> Any:
    """One input, one output, and a layer that training would change the answer of."""
    x = keras.Input((4,), name="x")
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(8, "relu")(x))
    return keras.Model(x, keras.layers.Dense(3, "softmax")(hidden))


def several() -> Any:
    """Inputs whose names are not in the order of the model's list, and two outputs."""
    second, first = keras.Input((4,), name="second"), keras.Input((4,), name="first")
    joined = keras.layers.Concatenate()([second, 2 * first])
    return keras.Model([second, first], [keras.layers.Dense(2)(joined), keras.layers.Dense(1)(joined)])


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    keras.utils.set_random_seed(11)
    return {"one": one(), "several": several()}


@pytest.fixture(scope="module")
def broker(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBroker]:
    """In another process; serves what `Model.export` wrote."""
    paths: dict[str, Path] = {}
    for name, model in models.items():
        paths[name] = tmp_path_factory.mktemp("keras") / name
        model.export(paths[name], verbose=False)
    with serving(models=paths) as broker:
        yield broker


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"verbose": 0},
        {"batch_size": 16, "verbose": 0},
        {"batch_size": 7, "steps": 3, "verbose": 0},
        {"steps": 2, "verbose": 0},
    ],
    ids=repr,
)
@pytest.mark.parametrize("inputs", [X, [X]], ids=["array", "list"])
@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match")
def test_predict(client: Client, models: dict[str, Any], inputs: Any, arguments: dict[str, Any]) -> None:
    """Called as Keras is, answered as Keras does."""
    wanted = models["one"].predict(inputs, **arguments)
    got = client.model("one").predict(inputs, **arguments)
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, **NEAR)


@pytest.mark.parametrize("arguments", [{}, {"batch_size": 16}], ids=repr)
def test_inputs_and_outputs_by_name(
    client: Client, models: dict[str, Any], arguments: dict[str, Any]
) -> None:
    """Several inputs go in as the dict that Keras takes, too; several outputs have the names of the export."""
    inputs = {"first": X, "second": X[::-1].copy()}
    wanted = models["several"].predict(inputs, verbose=0, **arguments)
    got = client.model("several").predict(inputs, **arguments)
    assert list(got) == ["output_0", "output_1"]
    for ours, theirs in zip(got.values(), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, **NEAR)


def test_a_list_of_inputs_is_not_guessed_at(client: Client) -> None:
    """A SavedModel's signature has names and no order: the error gives them."""
    with pytest.raises(InvalidInput, match=r"pass a dict with 'first': .*'second': "):
        client.model("several").predict([X, X])


def test_call(client: Client, models: dict[str, Any]) -> None:
    """`model(x, training=False)` gives what the Keras model gives, as an array."""
    np.testing.assert_allclose(client.model("one")(X), models["one"](X, training=False).numpy(), **NEAR)


def test_a_rest_of_one_row(client: Client, models: dict[str, Any]) -> None:
    """70 rows are 17 x 4 and 2 more, or 69 and one more."""
    for batch_size in (4, 69):
        got = client.model("one").predict(X, batch_size)
        np.testing.assert_allclose(got, models["one"].predict(X, batch_size, verbose=0), **NEAR)
