"""Converts elements of a graph to the broker's own: names to tensors, tensors to specs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from broker.models.tf.composite import Definition, components
from broker.models.tf.conversions import plain_name
from broker.models.tf.runtime import tf
from worker_client.wire.default import MAX_BYTES, Default
from worker_client.wire.dtypes import SUPPORTED, dtype_named
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import Shape, Signature, TensorSpec
from worker_client.wire.tensors import MAX_RANK

_log = logging.getLogger("onesession.models")


@dataclass(frozen=True, slots=True)
class GraphSignature:
    """One signature and the graph's tensors behind it, in the order of the signature's inputs and outputs."""

    signature: Signature
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]


class NotServable(Exception):
    """Why a signature is left out."""


def endpoint_of(graph: Any, name: str, definition: Definition) -> GraphSignature:
    feeds, inputs = _side(graph, "input", definition.inputs, definition.flattened)
    fetches, outputs = _side(graph, "output", definition.outputs, {})
    if not outputs:
        raise NotServable("it returns nothing")
    inputs = tuple(with_default(spec, definition.defaults.get(spec.name)) for spec in inputs)
    return GraphSignature(Signature(name, inputs, outputs), feeds, fetches)


def _side(
    graph: Any, side: str, infos: Mapping[str, Any], flattened: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[TensorSpec, ...]]:
    """Tensor names and specs sorted by name, because the map in the file has no order; composite tensors as their
    components."""
    tensors: list[str] = []
    specs: list[TensorSpec] = []
    for name in sorted(infos):
        info, what = infos[name], f"{side} {name!r}"
        if info.WhichOneof("encoding") == "name":
            parts = [(name, flattened.get(name, ""), info)]
        else:
            found = components(info)
            parts = [(f"{name}.{part.role}", part.of(name), part.info) for part in found]
        for key, component, part in parts:
            tensors.append(_tensor_name(graph, what, part))
            specs.append(_tensor_spec(what, key, part, component))
    return tuple(tensors), tuple(specs)


def _tensor_name(graph: Any, what: str, info: Any) -> str:
    try:
        return str(graph.get_tensor_by_name(info.name).name)
    except (KeyError, ValueError):
        raise NotServable(f"{what} is tensor {info.name!r}, which the graph does not have") from None


def _tensor_spec(what: str, name: str, info: Any, component: str) -> TensorSpec:
    dtype = plain_name(tf.dtypes.as_dtype(info.dtype))
    if dtype not in SUPPORTED:
        raise NotServable(f"{what} is {dtype}, which numpy has no type for")
    shape = _shape(info.tensor_shape)
    if shape is not None and len(shape) > MAX_RANK:
        raise NotServable(f"{what} has {len(shape)} dimensions; at most {MAX_RANK} cross to the workers")
    return TensorSpec(name, dtype_named(dtype), shape, component)


def with_default(spec: TensorSpec, value: Any) -> TensorSpec:
    """The input with this TensorProto (or None) as its default; without a default if it does not fit or is too
    large."""
    if value is None:
        return spec
    array = tf.make_ndarray(value)
    if array.dtype != spec.dtype or not spec.accepts(array.shape):
        _log.warning("the default of input %r is not %s, so callers must pass the input", spec.name, spec)
        return spec
    default = Default.of(array)
    if default.nbytes > MAX_BYTES:
        _log.warning(
            "the default of input %r has %d bytes; a default above %d bytes is not sent to workers, so "
            "callers must pass the input",
            spec.name,
            default.nbytes,
            MAX_BYTES,
        )
        return spec
    return replace(spec, default=default)


def _shape(shape: Any) -> Shape | None:
    if shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else int(dim.size) for dim in shape.dim)


def operations_behind(graph: Any, tensors: Iterable[str]) -> set[Any]:
    """The operations that computing these tensors runs, without operations inside functions."""
    todo = [graph.get_tensor_by_name(name).op for name in tensors]
    seen = set(todo)
    while todo:
        operation = todo.pop()
        before = [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
        new = [each for each in before if each not in seen]
        seen.update(new)
        todo += new
    return seen


def fetchable(graph: Any, fetch: Any) -> Any:
    """The tensor or operation, or TensorFlow's own error (session.py, `_ElementFetchMapper`)."""
    try:
        return graph.as_graph_element(fetch, allow_tensor=True, allow_operation=True)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"Argument `fetch` = {fetch} cannot be interpreted as a Tensor. ({_argument(error)})"
        ) from None


def feedable(graph: Any, feed: Any) -> Any:
    try:
        tensor = graph.as_graph_element(feed, allow_operation=False)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"Cannot interpret feed_dict key as Tensor: {_argument(error)}") from None
    if not graph.is_feedable(tensor):
        raise InvalidInput(f"Tensor {tensor.name} may not be fed.")
    return tensor


def _argument(error: Exception) -> str:
    return str(error.args[0]) if error.args else str(error)


def spec_of(tensor: Any, name: str) -> TensorSpec:
    dtype = plain_name(tensor.dtype)
    if dtype not in SUPPORTED:
        raise InvalidInput(f"tensor {tensor.name} is {dtype}, which numpy has no type for")
    return TensorSpec(name, dtype_named(dtype), _shape(tensor.shape.as_proto()))


def fetched(graph: Any, tensor: Any) -> Any:
    found = fetchable(graph, tensor)
    if not isinstance(found, tf.Tensor):
        raise InvalidInput(
            f"{found.name} is an operation and has no value to return; name one of its tensors"
        )
    return found
