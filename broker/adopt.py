"""Models that this process made and goes on using: the broker serves them from here, and loads nothing.

Broker(adopted=[adopt.session("digits", sess, inputs={"x": x}, outputs={"y": y}), adopt.keras("faces", net)])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from broker.models.model import LoadedModel
from broker.models.python import function as functions
from broker.models.spec import ModelSpec

Side = Mapping[str, tuple[str, Any]]


def session(
    name: str, session: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any], **settings: Any
) -> LoadedModel:
    """Any tensors of a `tf.compat.v1.Session`'s graph as model `name`; its owner goes on using and closes it.

    `inputs` and `outputs` map the names that workers use to tensors, or to their names ("x:0"). Variables that the
    owner changes are changed for the workers. `settings` are fields of ModelSpec. Raises InvalidInput.
    """
    from broker.models.sources import session as sessions  # TensorFlow is there: somebody has made a session

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
    """A Python callable as model `name`, called from the broker's threads.

    `inputs` and `outputs` map names to (dtype, shape), None in a shape for a free dimension; without them the function
    has them from `broker.models.python.function.signature`, as it has `stateful`. Raises InvalidInput.
    """
    spec = ModelSpec(name, "function of this process", **settings)
    return functions.adopt(spec, function, inputs, outputs, functions.DECLARED if stateful else "")


def keras(name: str, model: Any, **settings: Any) -> LoadedModel:
    """A built Keras model as model `name`. Workers see later changes of its weights. Raises InvalidInput."""
    from broker.models.python.keras_model import keras_function

    call, inputs, outputs, effects = keras_function(model)
    spec = ModelSpec(name, "function of this process", **settings)
    made = functions.adopt(spec, call, inputs, outputs, effects)
    made.unexamined = ""  # what its layers do besides computing is known by their ops
    return made
