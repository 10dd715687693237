"""A Keras model of this process as a function of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from broker.models.effects.signature_effects import EffectFinder, describe
from broker.models.tf.runtime import tf
from worker_client.wire.errors import InvalidInput

Sides = dict[str, tuple[str, list[Any]]]
"""Names with their dtypes and shapes."""


def keras_function(model: Any) -> tuple[Callable[..., Any], Sides, Sides, str]:
    """A Keras model as a function of arrays, its inputs and outputs as {name: (dtype, shape)}, and its effects."""
    if not getattr(model, "built", False) or not getattr(model, "inputs", None):
        raise InvalidInput(
            f"{model!r} is not a built Keras model with known inputs; call it once on data, or give it an "
            "Input layer"
        )
    inputs = {tensor.name: (str(tensor.dtype), list(tensor.shape)) for tensor in model.inputs}
    outputs = {_output_name(n): (str(t.dtype), list(t.shape)) for n, t in enumerate(model.outputs)}
    specs = [tf.TensorSpec(shape, dtype) for dtype, shape in inputs.values()]
    single = len(specs) == 1
    traced = tf.function(lambda *tensors: model(tensors[0] if single else list(tensors), training=False))
    concrete = traced.get_concrete_function(*specs)

    def call(*arrays: np.ndarray) -> Any:
        answers = concrete(*[tf.convert_to_tensor(array) for array in arrays])
        values = [tensor.numpy() for tensor in tf.nest.flatten(answers)]
        return values if len(outputs) > 1 else values[0]

    graph = concrete.graph
    return call, inputs, outputs, describe(EffectFinder(graph).all_of(graph))


def _output_name(number: int) -> str:
    return "y" if number == 0 else f"y{number}"
