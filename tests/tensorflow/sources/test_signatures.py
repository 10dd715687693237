"""Every kind of signature of a SavedModel can be called, and answers in the signature's order."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from benchmarks.models.mlp import mlp_answer
from broker.models.aligned import aligned_empty
from broker.models.model import LoadedModel
from tests.arrays import FIXED_SIZE
from worker_client.wire.dtypes import dtype_named
from worker_client.wire.errors import InvalidInput, ModelNotFound


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 64])
def test_a_tf2_model_answers_right_for_any_number_of_rows(load, rng, rows):
    """The mlp's answers are those of its weights."""
    x = rng.normal(size=(rows, 128)).astype(np.float32)
    (y,) = load("mlp").callable("serving_default")(x)
    assert y.shape == (rows, 10)
    np.testing.assert_allclose(y, mlp_answer(x), atol=1e-6)


def test_a_tf1_model_has_its_variables(load):
    """Reference and resource variables of a TF1 SavedModel are restored."""
    (y,) = load("classic").callable("serving_default")(np.array([[1, 2], [3, 4]], np.float32))
    assert y.tolist() == [[121.0], [143.0]]


def test_a_tf1_model_has_its_tables(load):
    """The main op has run: tables hold their constants and the lines of the asset file, from the copy in the model."""
    model = load("classic")
    assert model.callable("lookup")(np.array([2, 1, 5]))[0].tolist() == [22, 11, -1]
    assert model.callable("asset")(np.array([0, 2, 3]))[0].tolist() == [7, 9, -1]


def test_inputs_and_outputs_are_sorted_by_name(load):
    """The order of feeds and answers does not hang on how the file was written."""
    model = load("shapes")
    signature = model.signatures["several"]
    assert str(signature) == (
        "several(alpha: int32[?], mid: float64[?, 2, 2], zeta: float32[?, 2])"
        " -> (first: float32[?, 2], second: int32[?], third: float64[?])"
    )
    alpha, mid, zeta = np.array([3], np.int32), np.ones((1, 2, 2)), np.array([[5, 6]], np.float32)
    first, second, third = model.callable("several")(alpha, mid, zeta)
    assert (first.tolist(), second.tolist(), third.tolist()) == ([[6, 7]], [6], [4])


def test_scalars(load):
    """Tensors without a dimension go in and come out."""
    difference, total = load("shapes").callable("scalars")(np.float32(5), np.float32(3))
    assert (difference.shape, float(difference), float(total)) == ((), 2.0, 8.0)


@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 3), (1,) * 8])
def test_an_unknown_rank_takes_any(load, shape):
    """A signature of unknown rank has the shape None, and runs with any."""
    model = load("shapes")
    assert model.signatures["any_rank"].inputs[0].shape is None
    assert model.callable("any_rank")(np.ones(shape, np.float32))[0].shape == shape


def test_a_signature_without_inputs(load):
    """A model may take nothing and still answer."""
    assert load("shapes").callable("constant")()[0].tolist() == [1.0, 2.0]


def test_what_can_be_batched_is_read_from_the_shapes(load):
    """Only signatures whose first dimensions are all free, and that have inputs, are joined."""
    signatures = load("shapes").signatures
    batchable = {name for name, signature in signatures.items() if signature.batchable}
    assert batchable == {"several", "nonzero"}


@pytest.mark.parametrize("name", FIXED_SIZE)
def test_every_dtype_passes_unchanged(load, name):
    """Each dtype of the wire goes through TensorFlow bit by bit, NaN and infinities included."""
    dtype = dtype_named(name)
    x = aligned_empty((4, 3), dtype)
    x[...] = np.array([[0, 1, 2], [3, 5, 7], [1, 1, 0], [100, 0, 9]]).astype(dtype)
    if dtype.kind in "fc" or name == "bfloat16":
        x[0] = [np.nan, np.inf, -np.inf]
    (y,) = load("identity").callable(name)(x)
    assert y.dtype == dtype
    assert y.tobytes() == x.tobytes()


def test_an_output_may_be_an_input(load):
    """A tensor that is fed and fetched comes back as it was given, beside what was computed."""
    x = np.array([[1, 2]], np.float32)
    model = load("aliases")
    double, same = model.callable("passthrough")(x)
    assert double.tolist() == [[2, 4]]
    assert same is x
    assert model.callable("only_passthrough")(x) == [x]


def test_two_outputs_may_be_one_tensor(load):
    """Two names for one tensor both get its value."""
    one, two = load("aliases").callable("twice")(np.array([[1, 2]], np.float32))
    assert one.tolist() == two.tolist() == [[2, 4]]


def test_two_inputs_may_be_one_tensor(load):
    """Two names for one tensor must be given one value; NaN counts as equal to itself."""
    run = load("aliases").callable("twins")
    x = np.array([[1, np.nan]], np.float32)
    np.testing.assert_array_equal(run(x, x.copy())[0], x * 2)
    with pytest.raises(InvalidInput, match="'a' and 'b' of signature 'twins' are one tensor"):
        run(x, x + 1)


def test_an_unknown_signature_is_named_with_those_there_are(load):
    """The error lists the signatures, and tells why the one asked for was left out."""
    model: LoadedModel = load("variants")
    with pytest.raises(ModelNotFound, match=r"'variants' has no signature 'nope'; it has serving_default$"):
        model.callable("nope")
    with pytest.raises(ModelNotFound, match="'handles' was left out: output 'list' is variant"):
        model.callable("handles")


def test_what_cannot_cross_is_left_out_with_its_reason(load):
    """A model with some signatures that cannot be served serves the others."""
    model = load("variants")
    assert list(model.signatures) == ["serving_default"]
    assert model.left_out == {"handles": "output 'list' is variant, which numpy has no type for"}
    assert load("aliases").left_out == {
        "missing": "output 'double' is tensor 'gone:0', which the graph does not have"
    }


def test_the_default_is_serving_default_or_the_first_by_name(load):
    """A caller who names no signature gets `serving_default` where there is one."""
    assert load("classic").default_signature == "serving_default"
    assert load("shapes").default_signature == "any_rank"


def test_one_callable_serves_several_threads_at_once(load, rng):
    """Runs that overlap do not mix their tensors."""
    run = load("mlp").callable("serving_default")
    inputs = [rng.normal(size=(rows, 128)).astype(np.float32) for rows in (1, 2, 3, 8)]
    wrong: list[int] = []

    def call(x: np.ndarray) -> None:
        want = mlp_answer(x)
        wrong.extend(len(x) for _ in range(200) if not np.allclose(run(x)[0], want, atol=1e-6))

    threads = [threading.Thread(target=call, args=(x,)) for x in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_models_do_not_share_state(load):
    """Two models loaded from one directory have a session and variables each."""
    one, other = load("classic"), load("classic")
    one.close()
    (y,) = other.callable("serving_default")(np.array([[1, 2]], np.float32))
    assert y.tolist() == [[121.0]]
