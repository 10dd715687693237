"""Adopts models that this process made and keeps using: the broker serves them from this process and loads nothing.

Broker(adopted=[adopt.session("digits", sess, inputs={"x": x}, outputs={"y": y}), adopt.keras("faces", net)])
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from broker.models.model import LoadedModel
from broker.models.python import function as functions
from broker.models.spec import ModelSpec
from worker_client.wire.errors import InvalidInput

Side = Mapping[str, tuple[str, Any]]


def session(
    name: str, session: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any], **settings: Any
) -> LoadedModel:
    """Serve any tensors of the graph of a `tf.compat.v1.Session` as model `name`. The owner keeps using the session and
    closes it.

    `inputs` and `outputs` map the names that workers use to tensors, or to their names ("x:0"). Changes that the owner
    makes to variables apply to the workers too. `settings` are fields of ModelSpec. Raises InvalidInput.
    """
    from broker.models.sources import session as sessions  # TensorFlow is imported: there is a session

    return sessions.adopt(ModelSpec(name, "session of this process", **settings), session, inputs, outputs)


def function(
    name: str,
    function: Callable[..., Any],
    inputs: Side | None = None,
    outputs: Side | None = None,
    *,
    stateful: bool = False,
    **settings: Any,
) -> functions.FunctionModel:
    """Serve a Python callable as model `name`. The broker's threads call it.

    `inputs` and `outputs` map names to (dtype, shape), with None in a shape for a free dimension. Without them, they
    and `stateful` come from the decorator `broker.models.python.function.signature`. Raises InvalidInput.
    """
    spec = ModelSpec(name, "function of this process", **settings)
    return functions.adopt(spec, function, inputs, outputs, functions.DECLARED if stateful else "")


def keras(name: str, model: Any, **settings: Any) -> LoadedModel:
    """Serve a built Keras model as model `name`. Workers see later changes of its weights. Raises InvalidInput."""
    from broker.models.python.keras_model import keras_function

    call, inputs, outputs, effects = keras_function(model)
    spec = ModelSpec(name, "function of this process", **settings)
    made = functions.adopt(spec, call, inputs, outputs, effects)
    made.unexamined = ""  # the ops of its layers show their side effects
    return made


def ours(models: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[LoadedModel]]:
    """Split the `models` of `Broker(...)` into models to be loaded and models that are objects of this process.

    Such an object, or a dict with it as `source` and settings beside it, is adopted. Raises InvalidInput.
    """
    loaded: dict[Any, Any] = {}
    adopted: list[LoadedModel] = []
    for name, value in models.items():
        settings = dict(value) if isinstance(value, Mapping) else {"source": value}
        make = _maker(settings.pop("source", None))
        if make is None:
            loaded[name] = value
        else:
            adopted.append(make(name, settings))
    return loaded, adopted


def _maker(source: Any) -> Callable[[str, dict[str, Any]], LoadedModel] | None:
    """The function that adopts this object; None for a source to be loaded, or for a value that is not a model."""
    kinds = {kind.__name__ for kind in type(source).__mro__ if kind.__module__.partition(".")[0] in _MAKERS}
    if "BaseSession" in kinds:
        return lambda name, settings: _session_of(name, source, settings)
    if "Model" in kinds:
        return lambda name, settings: keras(name, source, **settings)
    if callable(source) and not isinstance(source, (ModelSpec, os.PathLike)):
        return lambda name, settings: function(name, source, **settings)
    return None


_MAKERS = ("tensorflow", "keras", "tf_keras")


def _session_of(name: str, source: Any, settings: dict[str, Any]) -> LoadedModel:
    if not (settings.get("inputs") and settings.get("outputs")):
        raise InvalidInput(
            f"model {name!r}: which of the session's tensors? write "
            f'models={{{name!r}: {{"source": session, "inputs": {{"x": x}}, "outputs": {{"y": y}}}}}}'
        )
    return session(name, source, **settings)
