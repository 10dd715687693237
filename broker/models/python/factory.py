"""Python factories: a `module:function` without a signature is called once, in the broker, and returns the model.

    def digits():                                              def faces():
        ...                                                        return keras.applications.MobileNetV2()
        return session, {"x": x}, {"y": "softmax:0"}

It may return a `tf.compat.v1.Session` (with its inputs and outputs, or with those of the spec), a function with a
signature (or with its inputs and outputs), or a Keras model. The broker owns the returned object.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from broker.models.errors import RAISED_BY_CODE, ModelLoadError
from broker.models.files import no_space
from broker.models.files.temporary import temporary_folder
from broker.models.model import LoadedModel
from broker.models.python import function
from broker.models.spec import ModelSpec
from broker.models.spec_values import as_mapping
from broker.models.tf.import_logs import foreign_session
from worker_client.wire.errors import BrokerError, InvalidInput
from worker_client.wire.signature import Signature

_RETURNS = (
    "A factory returns a tf.compat.v1.Session, (session, inputs, outputs), a function with a signature, "
    "(function, inputs, outputs) or a Keras model"
)


def load(spec: ModelSpec, factory: Callable[..., Any]) -> LoadedModel:
    """Call `factory` and make a model of what it returns. Raises ModelLoadError."""
    _check_takes_nothing(spec, factory)
    if spec.imports or spec.op_libraries:
        from broker.models.sources import libraries

        libraries.load(spec)
    try:
        with foreign_session():
            made = factory()
    except RAISED_BY_CODE as error:
        raise _refused(
            spec,
            f"calling it raised {type(error).__name__}: {error}",
            "It has no signature, so it was called to make the model; make that work in the broker's "
            "environment, or "
            f"if it is the model itself: {function.HOW_TO_ATTACH}",
        ) from error
    try:
        return _model_of(spec, made)
    except InvalidInput as error:
        raise _refused(spec, f"what it returned cannot be served: {error}", _RETURNS) from error


def _model_of(spec: ModelSpec, made: Any) -> LoadedModel:
    inputs: Any = None
    outputs: Any = None
    if isinstance(made, tuple) and len(made) == 3:
        made, inputs, outputs = made
    if _is_session(made):
        from broker.models.sources import session

        if outputs is None:
            inputs, outputs = as_mapping(spec.inputs), as_mapping(spec.outputs)
        if not outputs:
            raise _refused(
                spec,
                "it returned a session without its inputs and outputs",
                'Return (session, {"x": x}, {"y": y}), or set inputs = ["x=x:0"] and outputs = ["y=y:0"]',
            )
        return session.adopt(spec, made, inputs, outputs, owned=True)
    if _is_keras(made):
        return _of_keras(spec, made)
    if callable(made) and (
        outputs is not None or isinstance(getattr(made, function.ATTRIBUTE, None), Signature)
    ):
        return function.adopt(spec, made, inputs, outputs)
    raise _refused(spec, f"it returned {_type_text(made)}, which is not a model", _RETURNS)


def _of_keras(spec: ModelSpec, model: Any) -> LoadedModel:
    """Export the model and open it as a SavedModel: a session runs it faster than Keras."""
    from broker.models.sources import keras_file, session

    with temporary_folder(spec) as folder:
        target = folder / "model"
        try:
            with foreign_session():
                keras_file.export(model, target)
        except Exception as error:
            if isinstance(error, BrokerError):
                raise
            full = no_space.problem_with(error, target)
            if full is not None:
                raise _refused(spec, *full) from error
            raise _refused(
                spec,
                f"the Keras model it returned cannot be exported: {type(error).__name__}: {error}",
                "Build it first: call it once on data, or give it an Input layer",
            ) from error
        return session.load_from(spec, target)


def _check_takes_nothing(spec: ModelSpec, factory: Callable[..., Any]) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return  # a built-in without a readable signature: call it
    passing = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    wanted = [p.name for p in parameters if p.default is p.empty and p.kind not in passing]
    if wanted:
        name = spec.source.partition(":")[2]
        raise _refused(
            spec,
            f"{name!r} has no signature, and is not a factory either: it takes {', '.join(wanted)}",
            function.HOW_TO_ATTACH,
        )


def _is_session(made: Any) -> bool:
    return "tensorflow" in sys.modules and isinstance(made, _session_class())


def _session_class() -> type:
    from broker.models.tf.runtime import BaseSession

    return BaseSession  # type: ignore[no-any-return]


def _is_keras(made: Any) -> bool:
    """Whether it is a Keras model, by the module name of its class: importing Keras would be slow where it is not
    used."""
    modules = {kind.__module__.partition(".")[0] for kind in type(made).__mro__ if kind.__name__ == "Model"}
    return bool(modules & {"keras", "tf_keras"})


def _type_text(made: Any) -> str:
    return f"a {type(made).__module__}.{type(made).__qualname__}" if made is not None else "None"


def _refused(spec: ModelSpec, cause: str, remedy: str) -> ModelLoadError:
    return ModelLoadError.of(spec.name, spec.source, cause, remedy)
