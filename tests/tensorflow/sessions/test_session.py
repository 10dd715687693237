"""`client.session(...)` beside TensorFlow's own session on the same model: same answers, same forms, same errors."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest

import worker_client
from broker.models.sources.session import SessionModel
from tests.brokers import TestBroker, serving
from tests.workers import worker
from worker_client import InvalidInput, ModelNotFound, Session

X, Y, OP = "serving_default_x:0", "StatefulPartitionedCall:0", "StatefulPartitionedCall"
ROWS = np.random.default_rng(3).standard_normal((5, 128)).astype(np.float32)


class Pair(NamedTuple):
    first: object
    second: object


class WithName(NamedTuple):
    name: object
    value: object


@attrs.frozen
class Attributes:
    name: object
    values: object


class Named:
    """What an app may still hold: an object with a graph element's name."""

    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture(scope="module")
def broker(saved_models: Mapping[str, Path]) -> Iterator[TestBroker]:
    models = {kind: saved_models[kind] for kind in ("mlp", "classic")}
    with serving("double", models=models) as running:
        yield running


@pytest.fixture
def session(broker: TestBroker) -> Iterator[Session]:
    with worker_client.connect(broker.address) as client:
        yield client.session("mlp")


@pytest.fixture
def tensorflow_session(load: Callable[..., SessionModel]) -> Any:
    return load("mlp")._session


FORMS = [
    Y,
    [Y],
    (Y, X),
    [Y, Y],
    {"y": Y, "deep": [X, (Y, {"x": X})]},
    OrderedDict([("b", Y), ("a", X)]),
    defaultdict(list, {"y": [Y]}),
    Pair(Y, [X]),
    WithName(X, Y),
    Attributes(Y, {"x": (X,)}),
    [],
    [OP, Y],
    OP,
]


@pytest.mark.parametrize("fetches", FORMS, ids=repr)
def test_any_form_of_fetches(session: Session, tensorflow_session: Any, fetches: Any) -> None:
    """Values and form are those of TensorFlow's session, to the last bit at one row."""
    feeds = {X: ROWS[:1]}
    same(session.run(fetches, feeds), tensorflow_session.run(fetches, feeds))


def same(got: Any, wanted: Any) -> None:
    assert type(got) is type(wanted)
    if isinstance(wanted, Mapping):
        assert list(got) == list(wanted)
        for key in wanted:
            same(got[key], wanted[key])
    elif isinstance(wanted, (list, tuple)):
        for one, other in zip(got, wanted, strict=True):
            same(one, other)
    elif isinstance(wanted, Attributes):
        same([got.name, got.values], [wanted.name, wanted.values])
    elif wanted is None:
        assert got is None
    else:
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("fetches", "feeds"),
    [
        ("nope:0", {}),
        ("nope", {}),
        ("StatefulPartitionedCall:7", {}),
        (None, {}),
        ([Y, 3], {X: ROWS}),
        (Y, {"nope:0": 1}),
        (Y, {OP: 1}),
        (Y, {3: 1}),
    ],
)
def test_wrong_names_get_tensorflows_error(
    session: Session, tensorflow_session: Any, fetches: Any, feeds: Any
) -> None:
    """The same built-in class to catch, and TensorFlow's words."""
    with pytest.raises((TypeError, ValueError)) as wanted:
        tensorflow_session.run(fetches, feeds)
    with pytest.raises(type(wanted.value)) as got:
        session.run(fetches, feeds)
    assert isinstance(got.value, InvalidInput)
    assert str(got.value).split()[:5] == str(wanted.value).split()[:5]


def test_values_are_converted_as_tensorflow_does(session: Session, tensorflow_session: Any) -> None:
    """Lists, and arrays of another dtype, become the tensor's dtype."""
    for value in (ROWS[:1].tolist(), ROWS[:1].astype(np.float64), np.ones((1, 128), np.int64)):
        same(session.run(Y, {X: value}), tensorflow_session.run(Y, {X: value}))
    with pytest.raises(InvalidInput, match=r"expects shape \[\?, 128\], got \[1, 3\]"):
        session.run(Y, {X: np.ones((1, 3), np.float32)})


def test_what_cannot_be_converted(session: Session) -> None:
    """A TypeError that names both sides."""
    with pytest.raises(TypeError, match="expects float32.* the str given cannot be fed"):
        session.run(Y, {X: "text"})


def test_objects_with_names_stand_for_tensors(session: Session) -> None:
    """As tf.Tensor objects do; a tuple of keys takes a tuple of values."""
    answer = session.run([Named(Y)], {(Named(X),): (ROWS[:1],)})
    np.testing.assert_array_equal(answer[0], session.run(Y, {X: ROWS[:1]}))


def test_callables(session: Session, tensorflow_session: Any) -> None:
    """`make_callable` takes the values by position."""
    feed, fetch = [X], {"y": Y}
    same(
        session.make_callable(fetch, feed)(ROWS[:1]), tensorflow_session.make_callable(fetch, feed)(ROWS[:1])
    )
    with pytest.raises(InvalidInput, match="takes 1 values, one for each of its feed_list, got 2"):
        session.make_callable(fetch, feed)(ROWS, ROWS)


def test_no_value_is_needed_for_what_is_not_fed(
    broker: TestBroker, load: Callable[..., SessionModel]
) -> None:
    """Variables and constants are fetched as they are, scalars as numpy scalars."""
    theirs = load("classic")._session
    names = [
        tensor.name
        for operation in theirs.graph.get_operations()
        for tensor in operation.outputs
        if operation.type == "Const" and tensor.dtype.base_dtype.name in ("float32", "int64", "int32")
    ]
    assert names
    with worker_client.connect(broker.address) as client:
        same(client.session("classic").run(names), theirs.run(names))


def test_a_session_made_before_a_fork_works_in_the_child(broker: TestBroker) -> None:
    """With preloading servers it is made in the parent."""
    with worker_client.connect(broker.address) as client:
        session = client.session("mlp")
        wanted = session.run(Y, {X: ROWS[:1]})

        def call() -> np.ndarray:
            answer: np.ndarray = session.run(Y, {X: ROWS[:1]})
            return answer

        with worker(call) as child:
            np.testing.assert_array_equal(child.result(), wanted)


def test_a_function_has_no_graph(broker: TestBroker) -> None:
    """The error says how to call it instead; an unknown model is told as ever."""
    with worker_client.connect(broker.address) as client:
        with pytest.raises(InvalidInput, match="is a Python function and has no graph"):
            client.session("double").run("y:0")
        with pytest.raises(ModelNotFound, match="no model 'nobody'"):
            client.session("nobody").run("y:0")


def test_options_are_tensorflows_own(session: Session) -> None:
    """They are refused, and not ignored."""
    with pytest.raises(InvalidInput, match="options is supported only by TensorFlow"):
        session.run(Y, {X: ROWS}, options=object())  # type: ignore[arg-type]
