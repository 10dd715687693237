"""Python callables as models."""

from __future__ import annotations

import functools
import types

import numpy as np
import pytest

from broker.models.errors import ModelLoadError
from broker.models.model import Run
from broker.models.python import function
from broker.models.python.function import signature
from broker.models.spec import ModelSpec
from worker_client.wire.errors import InvalidInput, ModelFailed, ModelNotFound

ROWS = ("float32", [None, 2])
X = np.array([[1, 2], [3, 4]], np.float32)


@pytest.fixture
def module(monkeypatch) -> types.ModuleType:
    """A module called `app_models` that can be imported."""
    made = types.ModuleType("app_models")
    monkeypatch.setitem(__import__("sys").modules, "app_models", made)
    return made


@pytest.fixture
def serve(module):
    """`serve(f, inputs=, outputs=)` is `f` loaded as the model app_models:f."""

    def load(f, inputs=None, outputs=None) -> Run:
        module.f = signature(inputs=inputs or {"x": ROWS}, outputs=outputs or {"y": ROWS})(f)
        model = function.load(ModelSpec("m", "app_models:f"))
        return model.callable(model.default_signature)

    return load


def test_inputs_come_by_position_and_outputs_go_in_order(serve):
    """The order is that of the declaration, for a tuple and for a dict."""
    sides = {"inputs": {"b": ROWS, "a": ROWS}, "outputs": {"first": ROWS, "second": ROWS}}
    for function_ in (lambda b, a: (b - a, a), lambda b, a: {"second": a, "first": b - a}):
        first, second = serve(function_, **sides)(X, X * 2)
        assert first.tolist() == (-X).tolist()
        assert second.tolist() == (X * 2).tolist()


@pytest.mark.parametrize("wrap", [lambda y: y, lambda y: (y,), lambda y: {"y": y}, np.ma.asarray])
def test_one_output_may_come_bare(serve, wrap):
    """An array, a tuple of one and a dict of one are the same."""
    (y,) = serve(lambda x: wrap(x + 1))(X)
    assert type(y) is np.ndarray
    assert y.tolist() == (X + 1).tolist()


def test_numbers_become_arrays(serve):
    """What numpy makes an array of the declared dtype of, is one."""
    (y,) = serve(lambda x: np.float32(x.sum()), outputs={"y": ("float32", [])})(X)
    assert (y.shape, float(y)) == ((), 10.0)
    (y,) = serve(lambda x: [len(x), 3], outputs={"y": ("int64", [2])})(X)
    assert y.tolist() == [2, 3]


def test_the_function_stays_what_it_was():
    """The decorator returns its function, which can be called as before."""

    def double(x):
        return x * 2

    assert signature(inputs={"x": ROWS}, outputs={"y": ROWS})(double) is double


def test_an_object_with_a_call_is_a_model(module):
    """A model with state is an instance whose class has a signature."""

    @signature(inputs={"x": ROWS}, outputs={"y": ROWS})
    class Scale:
        def __init__(self, factor):
            self.factor = np.float32(factor)

        def __call__(self, x):
            return x * self.factor

    module.triple = Scale(3)
    run = function.load(ModelSpec("m", "app_models:triple")).callable("serving_default")
    assert run(X)[0].tolist() == (X * 3).tolist()


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            X.astype(np.float64),
            "app_models:f returned 'y' as float64, but its signature says float32.*astype",
        ),
        (X.astype(">f4"), "returned 'y' as >f4, but its signature says float32"),
        (X[:, :1], r"returned 'y' with shape \[2, 1\], but its signature says float32\[\?, 2\]"),
        (X[0], r"returned 'y' with shape \[2\], but its signature says"),
        (np.float32(1), r"returned 'y' with shape \[\], but its signature says"),
        (X[:1], "returned 'y' with 1 row for 2 rows of input"),
        (None, "returned 'y' as object, but its signature says float32"),
        ([[1], [2, 3]], "returned 'y', which is not an array"),
        ((X, X), r"returned 2 outputs, but its signature says 1: \['y'\]"),
        ((), "returned 0 outputs"),
        ({"z": X}, r"returned the outputs \['z'\], but its signature says \['y'\]"),
    ],
)
def test_a_wrong_answer_is_the_models_failure(serve, result, message):
    """The error names the function, the output, what it is and what was declared."""
    with pytest.raises(ModelFailed, match=message):
        serve(lambda x: result)(X)


def test_one_array_for_two_outputs(serve):
    """The error says how to return several."""
    run = serve(lambda x: x, outputs={"a": ROWS, "b": ROWS})
    with pytest.raises(
        ModelFailed, match=r"returned one ndarray, but its signature says 2 outputs.*return a tuple"
    ):
        run(X)


def test_an_exception_of_the_function_is_the_models_failure(serve):
    """Its class and text are in the message, itself is the cause."""

    def fail(x):
        raise KeyError("no such digit")

    with pytest.raises(ModelFailed, match="app_models:f raised KeyError: 'no such digit'") as caught:
        serve(fail)(X)
    assert isinstance(caught.value.__cause__, KeyError)


def test_other_free_dimensions_are_taken(serve):
    """A dimension of None takes any size, a shape of None any rank."""
    assert serve(lambda x: x, outputs={"y": ("float32", [None, None])})(X)[0] is X
    assert serve(lambda x: x[0], outputs={"y": ("float32", None)})(X)[0].shape == (2,)


@pytest.mark.parametrize(
    "declared",
    [
        "float32",
        ("float32",),
        ("object", [None]),
        ("float32", [-1]),
        ("float32", ["n"]),
        ("float32", [1.5]),
        7,
    ],
)
def test_a_declaration_that_cannot_be(declared):
    """The error names the tensor and shows a right one."""
    with pytest.raises(InvalidInput, match=r"input 'x': expected \(dtype, shape\) such as"):
        signature(inputs={"x": declared}, outputs={"y": ROWS})
    with pytest.raises(InvalidInput, match="output 'y': expected"):
        signature(inputs={}, outputs={"y": declared})


def test_a_model_returns_something():
    """A signature without outputs is refused."""
    with pytest.raises(InvalidInput, match="has no outputs"):
        signature(inputs={"x": ROWS}, outputs={})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "no_such_module:f",
            "there is no module 'no_such_module' on Python's path.*write ./no_such_module:f",
        ),
        ("broker.nope.deep:f", "there is no module 'broker.nope' on Python's path"),
        ("app_models:nope", "'app_models' has no attribute 'nope'. Write module:function"),
        ("app_models:number", "'number' is 'int' and not callable"),
        (
            "app_models:plain",
            "'plain' has no signature, and is not a factory either: it takes obj. Attach one with",
        ),
        ("app_models:plain.nope", "'app_models' has no attribute 'plain.nope'"),
    ],
)
def test_a_function_that_cannot_be_loaded(module, source, message):
    """The error names the model, its source, the cause and the remedy."""
    module.number, module.plain = 7, len
    with pytest.raises(ModelLoadError, match=f"model 'm' from '{source}' cannot be loaded: {message}"):
        function.load(ModelSpec("m", source))


def yields(x):
    yield x


async def waits(x):
    return x


async def yields_later(x):
    yield x


class Waiting:
    async def __call__(self, x):
        return x


_NO_ANSWER = {
    "generator": (yields, "is a generator function, .*Write `return` in place of `yield`"),
    "async": (waits, "is an async function, .*Write it with `def`"),
    "async generator": (yields_later, "is an async function"),
    "partial": (functools.partial(yields), "is a generator function"),
    "object": (Waiting(), "is an async function"),
}


@pytest.mark.parametrize(("given", "message"), _NO_ANSWER.values(), ids=list(_NO_ANSWER))
def test_what_gives_no_arrays_is_refused_at_the_start(module, given, message):
    """With the remedy, wherever the function comes from: a module, a factory, or this process."""
    module.bare, module.made = given, lambda: (given, {"x": ROWS}, {"y": ROWS})
    for name in ("bare", "made"):
        with pytest.raises(ModelLoadError, match=f"^model 'm' from 'app_models:{name}' .*{message}"):
            function.load(ModelSpec("m", f"app_models:{name}"))
    with pytest.raises(InvalidInput, match=f"^model 'm': .*{message}"):
        function.adopt(ModelSpec("m", "here"), given, {"x": ROWS}, {"y": ROWS})


def test_a_generator_with_a_signature_is_refused_at_the_start(serve):
    """Not when the first worker calls it."""
    with pytest.raises(ModelLoadError, match="yields is a generator function"):
        serve(yields)


@pytest.mark.parametrize("body", ["import no_such_dependency", "1 / 0"])
def test_a_module_that_fails_to_import(tmp_path, monkeypatch, body):
    """What its import raised is told, and not that the module is missing."""
    (tmp_path / "broken_app.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ModelLoadError, match=r"importing 'broken_app' raised (ModuleNotFound|ZeroDivision)Error"
    ):
        function.load(ModelSpec("m", "broken_app:f"))


def test_an_unknown_signature(serve, module):
    """A function has one signature, and the error names it."""
    serve(lambda x: x)
    model = function.load(ModelSpec("m", "app_models:f"))
    with pytest.raises(ModelNotFound, match="model 'm' has no signature 'nope'; it has serving_default"):
        model.callable("nope")
    model.close()
