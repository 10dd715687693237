"""Python callables as models: `module:function` with a signature attached, no TensorFlow. In short:

@signature(inputs={"x": ("float32", [None, 128])}, outputs={"y": ("float32", [None, 10])})
def digits(x): ...
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from broker.counters.counted import counted
from broker.models import examples
from broker.models.errors import RAISED_BY_CODE, ModelLoadError
from broker.models.model import DEFAULT_SIGNATURE, AdHocSignature, LoadedModel, Run, no_such_signature
from broker.models.spec import ModelSpec
from broker.models.tf.import_logs import tensorflow_import
from worker_client.wire.dtypes import STRING, dtype_named
from worker_client.wire.errors import InvalidInput, ModelFailed
from worker_client.wire.signature import Shape, Signature, TensorSpec, format_shape

ATTRIBUTE = "__broker_signature__"
_STATEFUL = "__broker_stateful__"
DECLARED = "changes state, as its function declares"
INDEPENDENT = "__broker_independent_rows__"
UNEXAMINED = (
    "it is a Python function, which is not run on made-up rows; if its rows are independent, declare it with "
    'independent_rows=True in its signature, or batching = "on"'
)
HOW_TO_ATTACH = (
    'Attach one with @broker.signature(inputs={"x": ("float32", [None, 128])}, '
    'outputs={"y": ("float32", [None, 10])})'
)

Side = Mapping[str, tuple[str, Sequence[int | None] | None]]
"""name -> (dtype, shape): a None in a shape is a free dimension, None for the shape an unknown rank."""
_F = TypeVar("_F", bound=Callable[..., Any])


def signature(
    *,
    inputs: Side,
    outputs: Side,
    name: str = DEFAULT_SIGNATURE,
    stateful: bool = False,
    independent_rows: bool = False,
) -> Callable[[_F], _F]:
    """Declare the inputs and outputs of a function, so that the broker can serve it as a model.

    The function is called with one array for each input, by position in the order written here, and returns an array
    (one output), a tuple or list in the order of the outputs, or a dict by output name, each of exactly the dtype
    declared. The arrays it gets are views of shared memory: it must not write to them nor keep them past its return,
    but it may return them or views of them. Strings are arrays of bytes objects; str may be returned as well. Where
    every first dimension is free, the outputs must have as many rows as the inputs. The broker calls the function with
    zeros (empty strings) when it starts, to measure it, unless it is `stateful`: then it is called for requests only,
    once for each, one after the other. Apart from these zeros, it only gets inputs that workers have sent. The function
    itself is returned unchanged.

    `independent_rows`: the answer to a row depends only on that row, so that requests may be joined along the free
    first dimensions, and long ones split. Only the author of a function can know this; without it, and without
    `batching = "on"` in the model's settings, the function gets each request by itself and in one piece.

    Raises InvalidInput for an invalid dtype or shape.
    """
    made = Signature(name, _specs("input", inputs), _specs("output", outputs))
    if not made.outputs:
        raise InvalidInput(f"the signature {name!r} has no outputs; a model returns at least one tensor")

    def attach(function: _F) -> _F:
        setattr(function, ATTRIBUTE, made)
        setattr(function, _STATEFUL, stateful)
        setattr(function, INDEPENDENT, independent_rows)
        return function

    return attach


class FunctionModel:
    """A Python callable as a LoadedModel. It has one signature and is version 1."""

    version = 1
    intra_op_threads = None
    onednn = None

    def __init__(
        self, spec: ModelSpec, function: Callable[..., Any], made: Signature, effects: str = ""
    ) -> None:
        """Raises ModelLoadError for a function whose call gives no arrays."""
        if refusal := _gives_no_arrays(function):
            raise ModelLoadError.of(spec.name, spec.source, *refusal)
        self.spec = spec
        self.signatures: Mapping[str, Signature] = {made.name: made}
        self.default_signature = made.name
        self.left_out: Mapping[str, str] = {}
        declared = DECLARED if getattr(function, _STATEFUL, False) else ""
        self.effects: Mapping[str, str] = {made.name: effects or declared}
        self.compiled: Mapping[str, str] = {}
        self.examples = examples.of_spec(spec, self.signatures)
        self.independent_rows = bool(getattr(function, INDEPENDENT, False))
        self.unexamined = UNEXAMINED  # why the broker may not examine its rows
        self._run: Run = _checked(spec.source, function, made)

    def callable(self, signature_name: str) -> Run:
        if signature_name not in self.signatures:
            raise no_such_signature(signature_name, self)
        return self._run

    def ad_hoc(self, name: str, feeds: Sequence[str], fetches: Sequence[str]) -> AdHocSignature:
        raise InvalidInput(
            f"model {self.spec.name!r} is a Python function and has no graph whose tensors a session could "
            "run; "
            "call it with client.model(...).predict(...)"
        )

    def interrupt(self) -> bool:
        """Python code of other authors cannot be ended."""
        return False

    def close(self) -> None:
        """Do nothing: the module stays imported."""

    def __repr__(self) -> str:
        return f"<FunctionModel {self.spec.name} {self.signatures[self.default_signature]}>"


def load(spec: ModelSpec) -> LoadedModel:
    """Import the function that `spec.source` names; a function without a signature is a factory. Raises
    ModelLoadError."""
    module_name, _, path = spec.source.partition(":")
    function = _import(spec, module_name)
    for attribute in path.split("."):
        if not hasattr(function, attribute):
            raise ModelLoadError.of(
                spec.name,
                spec.source,
                f"{module_name!r} has no attribute {path!r}",
                "Write module:function with a function that the module defines",
            )
        function = getattr(function, attribute)
    if not callable(function):
        raise ModelLoadError.of(
            spec.name,
            spec.source,
            f"{path!r} is {type(function).__name__!r} and not callable",
            "Name a function, or an object with a __call__ method",
        )
    made = getattr(function, ATTRIBUTE, None)
    if isinstance(made, Signature):
        return FunctionModel(spec, function, made)
    if refusal := _gives_no_arrays(function):
        raise ModelLoadError.of(spec.name, spec.source, *refusal)
    from broker.models.python import factory

    return factory.load(spec, function)


def adopt(
    spec: ModelSpec,
    function: Callable[..., Any],
    inputs: Side | None,
    outputs: Side | None,
    effects: str = "",
) -> FunctionModel:
    """Serve a callable of this process, with the signature given here or by `signature`, and its known effects. Raises
    InvalidInput."""
    made: Any = getattr(function, ATTRIBUTE, None)
    if inputs is not None and outputs is not None:
        made = getattr(signature(inputs=inputs, outputs=outputs)(lambda: None), ATTRIBUTE)
    if not isinstance(made, Signature):
        raise InvalidInput(
            f"model {spec.name!r}: {function!r} is not a callable with a signature; give inputs= and "
            "outputs=, "
            f"or: {HOW_TO_ATTACH}"
        )
    if refusal := _gives_no_arrays(function):
        raise InvalidInput(f"model {spec.name!r}: {'. '.join(refusal)}")
    return FunctionModel(spec, function, made, effects)


def _gives_no_arrays(function: Callable[..., Any]) -> tuple[str, str] | None:
    """Cause and remedy for a function whose call only creates a coroutine or generator; None for all others."""
    name = getattr(function, "__qualname__", None) or repr(function)
    for each in (function, type(function).__call__):
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            return (
                f"{name} is an async function, and models are called from threads without an event loop",
                "Write it with `def`, or serve a function that runs it to its end, with asyncio.run(...)",
            )
        if inspect.isgeneratorfunction(each):
            return (
                f"{name} is a generator function, and each call of a model has one answer",
                "Write `return` in place of `yield`, with all rows in one array",
            )
    return None


def _import(spec: ModelSpec, module_name: str) -> Any:
    try:
        with tensorflow_import():
            return importlib.import_module(module_name)
    except RAISED_BY_CODE as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        # A parent package that is missing counts as the module itself; an import inside it does not.
        if missing is not None and f"{module_name}.".startswith(f"{missing}."):
            cause = f"there is no module {missing!r} on Python's path"
            remedy = (
                "Start the broker in the directory that holds it, set PYTHONPATH, or install it; for a "
                f"SavedModel in a directory of that name write ./{spec.source}"
            )
        else:
            cause = f"importing {module_name!r} raised {type(error).__name__}: {error}"
            remedy = f"Make `python -c 'import {module_name}'` work in the broker's environment"
        raise ModelLoadError.of(spec.name, spec.source, cause, remedy) from error


def _specs(side: str, specs: Side) -> tuple[TensorSpec, ...]:
    return tuple(_spec(side, name, declared) for name, declared in specs.items())


def _spec(side: str, name: str, declared: tuple[str, Sequence[int | None] | None]) -> TensorSpec:
    try:
        dtype, shape = declared
        return TensorSpec(name, dtype_named(dtype), None if shape is None else _shape(shape))
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f'{side} {name!r}: expected (dtype, shape) such as ("float32", [None, 128]), '
            f"got {declared!r}: {error}"
        ) from None


def _shape(shape: Sequence[Any]) -> Shape:
    for size in shape:
        if size is not None and (not isinstance(size, int) or size < 0):
            raise ValueError(f"{size!r} is not a dimension; it must be None or an integer >= 0")
    return tuple(shape)


# --- the hot path: the function and the checks of what it returns ---


def _checked(source: str, function: Callable[..., Any], made: Signature) -> Run:
    """`function` as a Run: its exceptions become ModelFailed, its outputs are checked against `made`."""
    checks = [_output_check(source, spec) for spec in made.outputs]
    first_check = checks[0]
    single = len(checks) == 1
    batchable = made.batchable

    def run(*feeds: np.ndarray) -> Sequence[np.ndarray]:
        try:
            result = function(*feeds)
        except BaseException as error:  # sys.exit() and asyncio.CancelledError also end only the request
            raise ModelFailed(f"{source} raised {type(error).__name__}: {error}") from error
        if single and type(result) is np.ndarray:
            outputs = [first_check(result)]
        else:
            outputs = [
                check(value) for check, value in zip(checks, _in_order(source, made, result), strict=True)
            ]
        if batchable:
            rows = len(feeds[0])
            for output in outputs:
                if len(output) != rows:
                    raise _wrong_rows(source, made, outputs, rows)
        return outputs

    return run


def _output_check(source: str, spec: TensorSpec) -> Callable[[Any], np.ndarray]:
    dtype = spec.dtype
    strings = dtype == STRING
    shape = spec.shape
    # The usual case, all but the rows fixed, is two comparisons; `accepts` takes the others.
    rank = len(shape) if shape and shape[0] is None and None not in shape[1:] else -1
    tail = shape[1:] if shape else ()

    def check(value: Any) -> np.ndarray:
        if type(value) is not np.ndarray:
            value = _as_array(source, spec, value)
        if value.dtype != dtype and strings and value.dtype.kind in "SUT":
            value = value.astype(dtype)
        if value.dtype != dtype:
            have = value.dtype.name if value.dtype.isnative else value.dtype.str
            raise ModelFailed(
                f"{source} returned {spec.name!r} as {have}, but its signature says {spec}; "
                f"convert it with .astype({dtype.name!r})"
            )
        size = value.shape
        if not (len(size) == rank and size[1:] == tail) and not spec.accepts(size):
            raise ModelFailed(
                f"{source} returned {spec.name!r} with shape {format_shape(size)}, but its signature says "
                f"{spec}"
            )
        return value  # type: ignore[no-any-return]

    return check


def _as_array(source: str, spec: TensorSpec, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, STRING if spec.dtype == STRING else None)
    except Exception as error:
        raise ModelFailed(f"{source} returned {spec.name!r}, which is not an array: {error}") from error


def _in_order(source: str, made: Signature, result: Any) -> Sequence[Any]:
    """The function's result as one value for each output, in the signature's order."""
    names = [spec.name for spec in made.outputs]
    if isinstance(result, Mapping):
        if result.keys() != set(names):
            raise ModelFailed(
                f"{source} returned the outputs {sorted(result)}, but its signature says {sorted(names)}"
            )
        return [result[name] for name in names]
    if isinstance(result, (tuple, list)) and not (isinstance(result, list) and len(names) == 1):
        if len(result) != len(names):
            raise ModelFailed(
                f"{source} returned {len(result)} outputs, but its signature says {len(names)}: {names}"
            )
        return result
    if len(names) != 1:
        raise ModelFailed(
            f"{source} returned one {type(result).__name__}, but its signature says {len(names)} outputs: "
            f"{names}"
            "; return a tuple in this order or a dict by name"
        )
    return [result]


def _wrong_rows(source: str, made: Signature, outputs: Sequence[np.ndarray], rows: int) -> ModelFailed:
    name, have = next((s.name, len(o)) for s, o in zip(made.outputs, outputs, strict=True) if len(o) != rows)
    return ModelFailed(
        f"{source} returned {name!r} with {counted(have, 'row')} for {counted(rows, 'row')} of input; a model whose "
        "first dimensions are all free must return one row for each input row"
    )
