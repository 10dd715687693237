"""Every tensor type crosses: what a worker gets is what TensorFlow computes in this process, bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from broker.models.sources.session import SessionModel
from broker.models.tf.runtime import tf
from tests.brokers import TestBroker, serving
from tests.models.saved_types import DAYS, QUANTISED, WORDS
from worker_client import Client, InvalidInput

KINDS = ("text", "composite", "narrow", "classic_composite")
INTEGERS = {name: np.dtype(name.removeprefix("q")) for name in QUANTISED}


@pytest.fixture(scope="module")
def broker(saved_models: Mapping[str, Path]) -> Iterator[TestBroker]:
    models = {kind: saved_models[kind] for kind in KINDS}
    padded = {"source": str(saved_models["composite"]), "allowed_batch_sizes": [4, 8]}
    with serving(models={**models, "padded": padded}) as running:
        yield running


@pytest.fixture(scope="module")
def eager(saved_models: Mapping[str, Path]) -> Callable[[str, str], Any]:
    """`eager(kind, signature)` is TensorFlow's own function for it."""
    loaded = {kind: tf.saved_model.load(str(saved_models[kind])) for kind in ("text", "composite")}
    return lambda kind, signature: loaded[kind].signatures[signature]


def objects(*values: bytes) -> np.ndarray:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def same(got: Any, wanted: Any) -> None:
    """Of the same dtype and shape, and to the last bit; strings the same bytes."""
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    if wanted.dtype == object:
        assert got.tolist() == wanted.tolist()
    else:
        assert got.tobytes() == wanted.tobytes()


def in_session(model: SessionModel, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs by `Session.run`."""
    endpoint = model._endpoints[signature]
    feeds = dict(zip((spec.name for spec in endpoint.signature.inputs), endpoint.feeds))
    fetches = dict(zip((spec.name for spec in endpoint.signature.outputs), endpoint.fetches))
    outputs = model._session.run(fetches, {feeds[name]: value for name, value in inputs.items()})
    return {
        name: np.asarray(value, object if isinstance(value, bytes) else None)
        for name, value in outputs.items()
    }


TEXT = {
    "serving_default": {"text": objects(*[word.encode() for word in WORDS], b"nothing", b"\xff\0\xfe")},
    "spell": {"n": np.array([0, 3, 100_000, -0, 1])},
    "upper": {"x": np.array([[b"a", b""], [b"\xc3\xbc", b"zZ"]], object)},
    "join": {"a": np.array(b"one", object), "b": np.array(b"", object)},
    "split": {"text": objects(b"two words", b"", b"one", b" and three  more")},
}


@pytest.mark.parametrize("signature", TEXT)
def test_strings(client: Client, load: Callable[..., SessionModel], signature: str) -> None:
    """Tables of strings, strings whose number or length is known after the run only, scalars, unknown rank, a ragged
    answer through its components."""
    inputs = TEXT[signature]
    got = client.model("text", signature=signature).predict(inputs)
    wanted = in_session(load("text"), signature, inputs)
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        same(got[name], value)


def test_a_table_of_strings_holds_what_was_exported(client: Client) -> None:
    """So that the comparison above compares something; str goes in as UTF-8."""
    y = client.model("text").predict({"text": [*WORDS, "nothing"]})
    assert y["days"].tolist() == [*DAYS, -1]
    assert y["length"].tolist() == [len(word.encode()) for word in (*WORDS, "nothing")]


@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 1), (1,) * 8])
def test_strings_of_unknown_rank(client: Client, shape: tuple[int, ...]) -> None:
    """Any rank goes in and comes out."""
    y = client.model("text", signature="upper").predict(np.full(shape, "ab"))
    same(y, np.full(shape, b"AB", object))


def test_serialised_examples(client: Client, load: Callable[..., SessionModel]) -> None:
    """The commonest strings of all: tf.train.Example, which the model parses itself."""
    rows = objects(*[example([number, 2.0], f"row {number}") for number in range(5)], example([1, 1]))
    got = client.model("text", signature="parse").predict({"examples": rows})
    assert got["sum"].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0, 2.0]
    assert got["tag"].tolist() == [b"row 0", b"row 1", b"row 2", b"row 3", b"row 4", b"none"]
    for name, value in in_session(load("text"), "parse", {"examples": rows}).items():
        same(got[name], value)


def example(x: list[float], tag: str | None = None) -> bytes:
    features = {"x": tf.train.Feature(float_list=tf.train.FloatList(value=x))}
    if tag is not None:
        features["tag"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[tag.encode()]))
    made: bytes = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    return made


def test_strings_of_many_requests_in_one_batch(broker: TestBroker, client: Client) -> None:
    """Each gets its own rows, whatever the company."""
    model = client.model("text")
    texts = [[word] * rows for rows, word in enumerate([*WORDS, "nothing"] * 6)]
    for text, future in [(text, model.submit({"text": text})) for text in texts]:
        assert future.result(60)["length"].tolist() == [len(word.encode()) for word in text]


def test_a_session_takes_and_gives_strings(client: Client, load: Callable[..., SessionModel]) -> None:
    """As `tf.compat.v1.Session.run` does: lists of str and bytes, scalars as bytes."""
    theirs = load("text")
    ours = client.session("text")
    for signature, feeds in (
        ("serving_default", [["apple", b"pear", "größer"]]),
        ("upper", [[["a", "b"]]]),
        ("join", ["left", b"right"]),
    ):
        endpoint = theirs._endpoints[signature]
        feed_dict = dict(zip(endpoint.feeds, feeds))
        got = ours.run(list(endpoint.fetches), feed_dict)
        wanted = theirs._session.run(list(endpoint.fetches), feed_dict)
        assert [type(value) for value in got] == [type(value) for value in wanted]
        assert [np.asarray(value).tolist() for value in got] == [
            np.asarray(value).tolist() for value in wanted
        ]
    with pytest.raises(InvalidInput, match=r"element \[1\] is int"):
        ours.run(endpoint.fetches[0], {endpoint.feeds[0]: ["a", 3], endpoint.feeds[1]: "b"})


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", ["half", "bfloat16"])
def test_half_and_bfloat16(
    client: Client, load: Callable[..., SessionModel], rng: Any, signature: str
) -> None:
    """Arithmetic in 16 bits, computed by TensorFlow and by nobody else."""
    dtype = np.dtype(ml_dtypes.bfloat16 if signature == "bfloat16" else np.float16)
    x = rng.normal(size=(1, 8)).astype(dtype)
    got = client.model("narrow", signature=signature).predict({"x": x})
    for name, value in in_session(load("narrow"), signature, {"x": x}).items():
        same(got[name], value)
    assert got["y"].dtype == dtype


@pytest.mark.parametrize("signature", QUANTISED)
def test_quantised_integers_are_integers(
    client: Client, load: Callable[..., SessionModel], rng: Any, signature: str
) -> None:
    """qint8 goes in as int8 and comes out so, as from TensorFlow."""
    kind = INTEGERS[signature]
    limits = np.iinfo(kind)
    x = np.append(rng.integers(limits.min, limits.max, (4, 3)), [[limits.min, 0, limits.max]], 0).astype(kind)
    got = client.model("narrow", signature=signature).predict(x)
    same(got, x)
    same(got, in_session(load("narrow"), signature, {"x": x})["y"])


def test_quantised_arithmetic(client: Client, load: Callable[..., SessionModel], rng: Any) -> None:
    """There and back through TensorFlow's quantised integers."""
    x = rng.uniform(-1, 1, (3, 4)).astype(np.float32)
    got = client.model("narrow", signature="quantise").predict({"x": x})
    wanted = in_session(load("narrow"), "quantise", {"x": x})
    same(got["q"], wanted["q"])
    same(got["range"], wanted["range"])
    back = client.model("narrow", signature="dequantise").predict(got["q"])
    same(back, in_session(load("narrow"), "dequantise", {"q": got["q"]})["x"])
    np.testing.assert_allclose(back, x, atol=1 / 120)


# -- composite tensors -------------------------------------------------------------------------------------------------

RAGGED = np.array([1, 2, 3, 4, 5, 6], np.float32), np.array([0, 2, 2, 6])
DEEP = np.arange(6), np.array([0, 2, 3]), np.array([0, 1, 1, 6])


def test_ragged_in(client: Client, eager: Callable[..., Any]) -> None:
    """A ragged input is its flat values and row splits, under the names that TensorFlow has given them."""
    values, splits = RAGGED
    got = client.model("composite", signature="ragged_sum").predict({"r": values, "r_1": splits})
    same(got["sum"], eager("composite", "ragged_sum")(r=values, r_1=splits)["sum"].numpy())
    assert got["sum"].tolist() == [3, 0, 18]
    assert client.model("composite", signature="ragged_sum").signature.inputs[1].component == (
        "row_splits of ragged 'r'"
    )


def test_ragged_of_more_dimensions_in_and_out(client: Client, eager: Callable[..., Any]) -> None:
    """With several row splits, and a plain tensor beside it."""
    values, inner, outer = DEEP
    inputs = {"r": values, "r_1": inner, "r_2": outer, "scale": np.ones(2, np.float32)}
    wanted = eager("composite", "ragged_deep")(**{name: tf.constant(value) for name, value in inputs.items()})
    got = client.model("composite", signature="ragged_deep").predict(inputs)
    same(got["r.flat_values"], wanted["r"].flat_values.numpy())
    for number, splits in enumerate(wanted["r"].nested_row_splits):
        same(got[f"r.row_splits.{number}"], splits.numpy())
    same(got["scale"], wanted["scale"].numpy())


def test_ragged_out(client: Client, eager: Callable[..., Any]) -> None:
    """An answer of as many words as there happen to be."""
    text = ["two words", "", "and three more"]
    wanted = eager("text", "split")(text=tf.constant(text))["words"]
    got = client.model("text", signature="split").predict({"text": text})
    same(got["words.flat_values"], wanted.flat_values.numpy())
    same(got["words.row_splits"], wanted.row_splits.numpy())
    assert list(got) == ["count", "words.flat_values", "words.row_splits"]


def test_sparse_in_and_out(client: Client, eager: Callable[..., Any]) -> None:
    """Indices, values and shape, on either side."""
    inputs = {
        "s": np.array([[0, 1], [2, 3]]),
        "s_1": np.array([1.5, 2.5], np.float32),
        "s_2": np.array([3, 4]),
    }
    wanted = eager("composite", "densify")(**{name: tf.constant(value) for name, value in inputs.items()})
    got = client.model("composite", signature="densify").predict(inputs)
    same(got["dense"], wanted["dense"].numpy())
    for role in ("indices", "values", "dense_shape"):
        same(got[f"twice.{role}"], getattr(wanted["twice"], role).numpy())
    x = np.array([[0, 1, 0, 0], [0, 0, 0, 2]], np.float32)
    wanted = eager("composite", "sparsify")(x=tf.constant(x))["s"]
    got = client.model("composite", signature="sparsify").predict({"x": x})
    for role in ("indices", "values", "dense_shape"):
        same(got[f"s.{role}"], getattr(wanted, role).numpy())


def test_composite_tensors_of_tensorflow_1(client: Client, load: Callable[..., SessionModel]) -> None:
    """Where the signature itself names them, inputs are named by component, too."""
    inputs: dict[str, Any] = {
        "a.indices": np.array([[0, 1], [1, 3]]),
        "a.values": np.array([5, 7], np.float32),
        "a.dense_shape": np.array([2, 4]),
    }
    got = client.model("classic_composite").predict(inputs)
    assert got["dense"].tolist() == [[0, 5, 0, 0], [0, 0, 0, 7]]
    same(got["dense"], in_session(load("classic_composite"), "serving_default", inputs)["dense"])
    inputs = {"words.flat_values": objects(b"a", b"b", b"c"), "words.row_splits": np.array([0, 1, 1, 3])}
    got = client.model("classic_composite", signature="ragged").predict(inputs)
    for name, value in in_session(load("classic_composite"), "ragged", inputs).items():
        same(got[name], value)
    assert got["shouted.flat_values"].tolist() == [b"A", b"B", b"C"]


@pytest.mark.parametrize("model", ["composite", "padded"])
def test_components_are_never_joined_padded_or_split(client: Client, model: str) -> None:
    """Their first dimension is free and counts no rows: requests whose shapes would let them run together, and of which
    the answer would have the right number of rows, are each run as they are."""
    weigh = client.model(model, signature="ragged_weigh")
    assert not weigh.signature.batchable
    values, splits = np.array([1, 2, 3], np.float32), np.array([0, 1, 3])  # three of either
    futures = [weigh.submit({"r": values, "r_1": splits}) for _ in range(40)]
    for future in futures:
        assert future.result(60)["flat"].tolist() == [2, 4, 6]
    same(weigh.predict({"r": values, "r_1": splits})["flat"], values * np.float32(2))


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 5, 2), (0, 4, 2), (2, 0, 2)])
def test_unknown_dimensions(client: Client, eager: Callable[..., Any], shape: tuple[int, ...]) -> None:
    """A free dimension takes any size, and gives any."""
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    wanted = eager("composite", "unknown_dimensions")(x=tf.constant(x))
    got = client.model("composite", signature="unknown_dimensions").predict({"x": x})
    for name, value in wanted.items():
        same(got[name], value.numpy())
