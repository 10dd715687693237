"""A signature bound to a channel: the object that a handle, its requests and its futures share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from worker_client.calls.inputs import InputValidator
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import TensorSpec

if TYPE_CHECKING:
    from worker_client.calls.channel import Channel
    from worker_client.connection import Connection


class Binding(NamedTuple):
    """A signature as this process's channel knows it. It is replaced together with the channel.

    Requests and futures refer to it, and through it to the connection, which closes when nothing refers to it.
    """

    connection: Connection
    channel: Channel
    id: int
    validator: InputValidator
    output_names: tuple[str, ...]


def input_shapes(
    validator: InputValidator, rows: int | None, shapes: dict[str, tuple[int, ...]]
) -> list[tuple[int, ...]]:
    unknown = [name for name in shapes if name not in validator.names]
    if unknown:
        raise InvalidInput(
            f"{validator.label} has no input {', '.join(unknown)}; it has {', '.join(validator.names)}"
        )
    found = []
    for spec in validator.signature.inputs:
        if spec.name in shapes:
            shape: Any = shapes[spec.name]
        else:
            shape = spec.with_rows(rows) if spec.default is None else spec.default.shape
        if shape is None:
            raise InvalidInput(
                f"{validator.label}: input {spec.name!r} is {spec}; give its whole shape: "
                f"request(shapes={{{spec.name!r}: (...)}})"
            )
        found.append(_dimensions(validator, spec, shape))
    return found


def _dimensions(validator: InputValidator, spec: TensorSpec, shape: Iterable[Any]) -> tuple[int, ...]:
    try:
        dimensions = tuple(index(size) for size in shape)
    except TypeError:
        dimensions = (-1,)
    if any(size < 0 for size in dimensions):
        raise InvalidInput(
            f"{validator.label}: input {spec.name!r} is {spec} and cannot have the shape {shape!r}"
        )
    return dimensions


def copied(binding: Binding, outputs: tuple[np.ndarray, ...], inputs: Any) -> Any:
    """Private copies of the outputs, in the form in which `predict` returns them for `inputs`."""
    if len(outputs) == 1 and (type(inputs) is np.ndarray or not isinstance(inputs, Mapping)):
        return outputs[0].copy()
    return {name: array.copy() for name, array in zip(binding.output_names, outputs)}
