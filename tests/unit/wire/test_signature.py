"""What a signature says about its tensors, and that it says the same on the other side of the control plane."""

from __future__ import annotations

import json
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_client.wire.default import Default
from worker_client.wire.dtypes import SUPPORTED, dtype_named
from worker_client.wire.signature import Shape, Signature, TensorSpec, format_shape

shapes = st.none() | st.lists(st.none() | st.integers(0, 10_000), max_size=8).map(tuple)
specs = st.builds(
    TensorSpec,
    st.text(max_size=20),
    st.sampled_from(SUPPORTED).map(dtype_named),
    shapes,
    st.text(max_size=20),
)
texts = st.lists(st.binary(max_size=9), max_size=3).map(tuple)
defaults = st.builds(
    Default, st.lists(st.integers(0, 9), max_size=3).map(tuple), st.binary(max_size=30) | texts
)
specs = specs | st.builds(replace, specs, default=defaults)
sides = st.lists(specs, max_size=4).map(tuple)
signatures = st.builds(Signature, st.text(max_size=20), sides, sides)


def spec(*shape: int | None, name: str = "x") -> TensorSpec:
    return TensorSpec(name, np.dtype("float32"), shape)


UNKNOWN = TensorSpec("x", np.dtype("float32"), None)
PART = TensorSpec("x", np.dtype("int64"), (None,), "row_splits of ragged 'x'")
TEXT = TensorSpec("text", dtype_named("string"), (None,))


@given(signatures)
def test_a_signature_survives_the_control_plane(signature: Signature):
    """A signature packed as a control message and read again equals itself."""
    message = msgpack.unpackb(msgpack.packb(json.loads(json.dumps(signature.to_message()))))
    assert Signature.from_message(message) == signature


def test_a_message_with_a_foreign_dtype_is_refused():
    """A dtype that cannot cross the wire is refused when the signature is read, not at the first call."""
    with pytest.raises(TypeError, match="dtype 'object' cannot be sent"):
        Signature.from_message({"name": "s", "inputs": [["x", "object", None, "", None]], "outputs": []})


@pytest.mark.parametrize(
    ("wanted", "given_shape", "fits"),
    [
        ((None, 3), (5, 3), True),
        ((None, 3), (0, 3), True),
        ((None, 3), (5, 4), False),
        ((None, 3), (5,), False),
        ((None, 3), (1, 5, 3), False),
        ((2, 3), (2, 3), True),
        ((2, 3), (1, 3), False),
        ((0,), (0,), True),
        ((0,), (1,), False),
        ((), (), True),
        ((), (1,), False),
        (None, (), True),
        (None, (4, 5, 6), True),
    ],
)
def test_accepts(wanted: Shape | None, given_shape: tuple[int, ...], fits: bool):
    """A free dimension takes any length, a fixed one its own, an unknown rank every shape."""
    assert TensorSpec("x", np.dtype("float32"), wanted).accepts(given_shape) is fits


@pytest.mark.parametrize(
    ("wanted", "rows", "shape"),
    [
        ((None, 3), 5, (5, 3)),
        ((None, 3), 0, (0, 3)),
        ((None, 3), None, None),
        ((None, None), 5, None),
        ((4, None), 4, None),
        ((4, 3), 5, (4, 3)),
        ((4, 3), None, (4, 3)),
        ((), 5, ()),
        (None, 5, None),
    ],
)
def test_with_rows(wanted: Shape | None, rows: int | None, shape: tuple[int, ...] | None):
    """The rows fill the first dimension only, and only where it is free; another free one leaves no shape."""
    assert TensorSpec("x", np.dtype("float32"), wanted).with_rows(rows) == shape


@given(specs, st.integers(0, 100))
def test_a_concrete_shape_is_accepted(wanted: TensorSpec, rows: int):
    """Whatever `with_rows` gives, `accepts` takes."""
    shape = wanted.with_rows(rows)
    assert shape is None or wanted.accepts(shape)


@pytest.mark.parametrize(
    ("inputs", "outputs", "batchable"),
    [
        ((spec(None, 3),), (spec(None, 2),), True),
        ((spec(None),), (), True),
        ((spec(None, 3), spec(None)), (spec(None),), True),
        ((spec(None, 3), spec(3)), (spec(None),), False),
        ((spec(None, 3),), (spec(),), False),
        ((spec(None, 3),), (spec(1, 2),), False),
        ((spec(1, 3),), (spec(None, 2),), False),
        ((UNKNOWN,), (spec(None),), False),
        ((spec(None),), (UNKNOWN,), False),
        ((), (spec(None),), False),
        ((spec(None), PART), (spec(None),), False),
        ((spec(None),), (PART,), False),
    ],
)
def test_batchable(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], batchable: bool):
    """Requests can be joined only if there are inputs and every tensor's first dimension is free and counts rows, which
    those of a composite tensor's components do not."""
    assert Signature("s", inputs, outputs).batchable is batchable


@pytest.mark.parametrize(
    ("shape", "text"), [(None, "[...]"), ((), "[]"), ((3,), "[3]"), ((None, 28, 28), "[?, 28, 28]")]
)
def test_how_a_shape_is_shown(shape: Shape | None, text: str):
    """Free dimensions are shown as ?, an unknown rank as dots."""
    assert format_shape(shape) == text


def test_how_a_signature_is_shown():
    """A signature reads as name(inputs) -> (outputs), each with dtype and shape."""
    ids = TensorSpec("ids", np.dtype("int64"), None)
    signature = Signature("serving_default", (spec(None, 3), ids), (spec(None, 2, name="y"),))
    assert str(signature) == "serving_default(x: float32[?, 3], ids: int64[...]) -> (y: float32[?, 2])"
    assert str(Signature("fire", (), ())) == "fire() -> ()"
    assert str(Signature("words", (TEXT,), (PART,))) == (
        "words(text: string[?]) -> (x: int64[?] (row_splits of ragged 'x'))"
    )


def test_which_signatures_have_strings():
    """Both sides of the wire treat those apart."""
    signature = Signature("s", (spec(None), TEXT), (spec(None),))
    assert (signature.takes_strings, signature.gives_strings) == (True, False)
    signature = Signature("s", (spec(None),), (TEXT,))
    assert (signature.takes_strings, signature.gives_strings) == (False, True)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.float32(0.1), "0.1"),
        (np.array([3, 4], np.int64), "[3, 4]"),
        (np.array([[True], [False]]), "[[True], [False]]"),
        (np.array("né:".encode(), object), "'né:'"),
        (np.array([b"a", b"b"], object), "['a', 'b']"),
        (np.array(b"x" * 100, object), "..."),
        (np.zeros(9, np.int8), "..."),
        (np.zeros((0, 3), np.float32), "[]"),
        (np.array(1.5, dtype_named("bfloat16")), "1.5"),
    ],
)
def test_a_default_is_shown_if_it_is_short(value: np.ndarray, shown: str):
    """`temperature: float32[] = 2.0`, and the same value comes out as went in."""
    array = np.asarray(value)
    default = Default.of(array)
    assert str(TensorSpec("x", array.dtype, array.shape, default=default)).endswith(f"] = {shown}")
    back = default.array(array.dtype)
    assert back.shape == array.shape
    assert back.tolist() == array.tolist()
    assert not back.flags.writeable
