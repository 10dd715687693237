"""Decides which signatures of an opened graph can be served: the declared ones, or one made from tensor names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from broker.models.errors import ModelLoadError
from broker.models.model import DEFAULT_SIGNATURE
from broker.models.sources import frozen, variables
from broker.models.spec import ModelSpec
from broker.models.spec_values import as_mapping
from broker.models.tf.graph import (
    GraphSignature,
    NotServable,
    endpoint_of,
    feedable,
    fetched,
    operations_behind,
    spec_of,
)
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import Signature

NO_VALUE = "it reads variables without a value:"
CALLS_PYTHON = "it calls Python"
_MOST = 3


def of_tensors(graph: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> GraphSignature:
    """One signature of these tensors, or names of tensors, by name. Raises InvalidInput."""
    feeds = {name: feedable(graph, tensor) for name, tensor in inputs.items()}
    fetches = {name: fetched(graph, tensor) for name, tensor in outputs.items()}
    signature = Signature(
        DEFAULT_SIGNATURE,
        tuple(spec_of(tensor, name) for name, tensor in feeds.items()),
        tuple(spec_of(tensor, name) for name, tensor in fetches.items()),
    )
    names = [tuple(tensor.name for tensor in side.values()) for side in (feeds, fetches)]
    return GraphSignature(signature, *names)


def of_spec(spec: ModelSpec, graph: Any) -> GraphSignature:
    """The signature that `spec.inputs` and `spec.outputs` make, or the graph itself. Raises ModelLoadError."""
    inputs, outputs = as_mapping(spec.inputs), as_mapping(spec.outputs)
    if not outputs:
        all_inputs, outputs = frozen.names_of(spec, graph)
        inputs = inputs or all_inputs
    try:
        return of_tensors(graph, inputs, outputs)
    except InvalidInput as error:
        raise ModelLoadError.of(
            spec.name,
            spec.source,
            f"its settings inputs = {list(spec.inputs)} and outputs = {list(spec.outputs)} do not fit: "
            f"{error}",
            "Name tensors of the graph, such as inputs = ['x=input:0'] and outputs = ['y=softmax:0']",
        ) from None


def of_definitions(
    session: Any, definitions: Mapping[str, Any]
) -> tuple[dict[str, GraphSignature], dict[str, str]]:
    """The signatures whose tensors can be sent to workers, by name, and the reasons why others cannot be served."""
    endpoints: dict[str, GraphSignature] = {}
    left_out: dict[str, str] = {}
    for name in sorted(definitions):
        if name.startswith("__saved_model"):
            continue  # TensorFlow's own: the initialiser and the training step
        try:
            endpoints[name] = endpoint_of(session.graph, name, definitions[name])
        except NotServable as reason:
            left_out[name] = str(reason)
    return endpoints, left_out


def leave_out_without_values(
    session: Any, endpoints: dict[str, GraphSignature], left_out: dict[str, str]
) -> None:
    """Move signatures that read a variable that was not restored to `left_out`."""
    graph = session.graph
    read = {name: variables.read_by(graph, endpoint.fetches) for name, endpoint in endpoints.items()}
    empty = variables.without_value(session, list({op for found in read.values() for op in found}))
    for name, found in read.items():
        missing = sorted(op.name for op in found if op.name in empty)
        if missing:
            more = f" and {len(missing) - _MOST} more" if len(missing) > _MOST else ""
            left_out[name] = f"{NO_VALUE} {', '.join(missing[:_MOST])}{more}, which were not saved with it"
            del endpoints[name]


def leave_out_marked(
    graph: Any, marks: Mapping[str, str], endpoints: dict[str, GraphSignature], left_out: dict[str, str]
) -> None:
    """Move signatures that run one of these operations to `left_out`, with the operation's text."""
    for name, endpoint in list(endpoints.items()):
        text = mark_of(graph, marks, endpoint.fetches)
        if text:
            left_out[name] = text
            del endpoints[name]


def mark_of(graph: Any, marks: Mapping[str, str], tensors: Iterable[str]) -> str:
    """The text in `marks` of the first operation that computing these tensors runs; empty if there is none."""
    if not marks:
        return ""
    names = sorted(operation.name for operation in operations_behind(graph, tensors))
    return next((marks[name] for name in names if name in marks), "")
