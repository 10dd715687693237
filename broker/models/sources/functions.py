"""Describes the functions in the object graph of a SavedModel without signatures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from broker.models.tf.runtime import nested_structure_coder, tf

MOST = 8


def described(meta_graph: Any) -> list[str]:
    """`serve(x: float32[?, 4])` for each way in which a function of the root object was traced."""
    objects = meta_graph.object_graph_def
    if not objects.nodes:
        return []
    found: list[str] = []
    for child in objects.nodes[0].children:
        node = objects.nodes[child.node_id]
        if node.WhichOneof("kind") == "function":
            names = node.function.concrete_functions
        elif node.WhichOneof("kind") == "bare_concrete_function":
            names = [node.bare_concrete_function.concrete_function_name]
        else:
            continue
        found += [_described(child.local_name, objects.concrete_functions[name]) for name in names]
    return list(dict.fromkeys(found))[:MOST]


def _described(name: str, function: Any) -> str:
    try:
        decoded = nested_structure_coder.decode_proto(function.canonicalized_input_signature)
        return f"{name}({', '.join(_arguments(decoded))})"
    except (TypeError, ValueError, AttributeError, nested_structure_coder.NotEncodableError):
        return f"{name}(...)"  # a type that only the exporting program knew


def _arguments(structure: Any) -> Iterator[str]:
    for argument in tf.nest.flatten(structure):
        if isinstance(argument, tf.TensorSpec):
            shape = ", ".join("?" if size is None else str(size) for size in argument.shape)
            yield f"{argument.name or 'tensor'}: {argument.dtype.name}[{shape}]"
        else:
            yield repr(argument)
