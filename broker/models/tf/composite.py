"""Represents composite tensors in signatures, mainly ragged and sparse ones, by their component tensors.

Where a SavedModel's signature names a composite tensor (outputs of TensorFlow 2, both sides in TensorFlow 1), it
becomes a tensor for each of its components, "words.flat_values" and "words.row_splits". The composite inputs of
TensorFlow 2 are plain tensors in the file already, "words" and "words_1"; they keep these names, and only their roles
are looked up, because their rows are not rows of a request that could be joined with others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from broker.models.tf.runtime import tf

_SPARSE = ("indices", "values", "dense_shape")


class Component(NamedTuple):
    """One tensor of a composite one: `role` is "flat_values", `kind` "ragged". `info` is a plain TensorInfo."""

    role: str
    kind: str
    info: Any

    def of(self, name: str) -> str:
        return f"{self.role} of {self.kind} {name!r}"


def components(info: Any) -> list[Component]:
    """The components of a TensorInfo that is not a plain tensor; their infos are copies with names, dtypes, shapes."""
    if info.WhichOneof("encoding") == "coo_sparse":
        return _sparse(info)
    spec = info.composite_tensor.type_spec
    kind, roles = roles_of(spec, len(info.composite_tensor.components))
    return [Component(role, kind, part) for role, part in zip(roles, info.composite_tensor.components)]


def _sparse(info: Any) -> list[Component]:
    """The three component tensors of a sparse tensor; all are int64 except the values (meta_graph.proto, CooSparse)."""
    made = []
    rank = None if info.tensor_shape.unknown_rank else len(info.tensor_shape.dim)
    shapes: tuple[list[int | None], ...] = ([None, rank], [None], [rank])
    for role, shape in zip(_SPARSE, shapes):
        part = type(info)()
        part.name = getattr(info.coo_sparse, f"{role}_tensor_name")
        part.dtype = info.dtype if role == "values" else tf.int64.as_datatype_enum
        for size in shape:
            part.tensor_shape.dim.add().size = -1 if size is None else size
        made.append(Component(role, "sparse", part))
    return made


def roles_of(spec: Any, count: int) -> tuple[str, list[str]]:
    """The kind of a TypeSpecProto, and the roles of its `count` components in order."""
    kind = spec.type_spec_class
    if kind == spec.SPARSE_TENSOR_SPEC and count == len(_SPARSE):
        return "sparse", list(_SPARSE)
    if kind == spec.RAGGED_TENSOR_SPEC and count > 1:
        splits = ["row_splits"] if count == 2 else [f"row_splits.{number}" for number in range(count - 1)]
        return "ragged", ["flat_values", *splits]
    return spec.type_spec_class_name or "composite", [str(number) for number in range(count)]


class Definition(NamedTuple):
    """A SignatureDef, with the roles of inputs that are components. `defaults` are TensorProtos by input."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    flattened: Mapping[str, str]
    defaults: Mapping[str, Any]


def definitions(meta_graph: Any) -> dict[str, Definition]:
    """The MetaGraph's signatures by name."""
    flattened = flattened_inputs(meta_graph)
    return {
        name: Definition(made.inputs, made.outputs, flattened.get(name, {}), made.defaults)
        for name, made in meta_graph.signature_def.items()
    }


def flattened_inputs(meta_graph: Any) -> dict[str, dict[str, str]]:
    """For each signature that TensorFlow 2 has flattened, the inputs that are components, with their roles:
    {"serving_default": {"words_1": "row_splits of ragged 'words'"}}.

    A signature is a placeholder for each input and a call of a wrapper, which calls the function that was exported; the
    object graph lists that function's arguments (saved_object_graph.proto, canonicalized_input_signature).
    """
    exported = meta_graph.object_graph_def.concrete_functions
    library = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    calls = [node for node in meta_graph.graph_def.node if "f" in node.attr]
    return {
        name: dict(_components_of_call(call, definition, library, exported))
        for name, definition in meta_graph.signature_def.items()
        for call in calls
        if _is_call_of(call, definition)
    }


def _is_call_of(call: Any, definition: Any) -> bool:
    outputs = {info.name.partition(":")[0] for info in definition.outputs.values()}
    names = {
        part.info.name.partition(":")[0]
        for info in definition.outputs.values()
        if info.WhichOneof("encoding") != "name"
        for part in components(info)
    }
    return call.name in outputs | names


def _components_of_call(
    call: Any, definition: Any, library: Mapping[str, Any], exported: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    wrapper = library.get(call.attr["f"].func.name)
    if wrapper is None:
        return
    # Maps inputs of the signature to arguments of the wrapper, and to their names inside it.
    by_tensor = {info.name.partition(":")[0]: name for name, info in definition.inputs.items()}
    inputs = {
        argument.name: by_tensor.get(source.partition(":")[0])
        for source, argument in zip(call.input, wrapper.signature.input_arg)
    }
    for node in wrapper.node_def:
        inner = exported.get(node.attr["f"].func.name) if "f" in node.attr else None
        if inner is None:
            continue
        roles = _leaf_roles(inner.canonicalized_input_signature)
        for (role, kind, first), source in zip(roles, node.input):
            name = inputs.get(source.partition(":")[0])
            whole = inputs.get(node.input[first].partition(":")[0])
            if name is not None and role:
                yield name, f"{role} of {kind} {whole!r}"


def _leaf_roles(structure: Any) -> list[tuple[str, str, int]]:
    """For each tensor that a function takes, in order: its role, its kind, and the number of the first component of its
    composite tensor. Plain tensors have empty roles."""
    found: list[tuple[str, str, int]] = []
    for leaf in _leaves(structure):
        if leaf.WhichOneof("kind") == "type_spec_value":
            spec = leaf.type_spec_value
            kind, roles = roles_of(spec, spec.num_flat_components or 1)
            found += [(role, kind, len(found)) for role in roles]
        else:
            found.append(("", "", len(found)))
    return found


def _leaves(structure: Any) -> Iterator[Any]:
    """The tensor specs in a StructuredValue, in the order in which TensorFlow flattens it: dicts by sorted key."""
    kind = structure.WhichOneof("kind")
    if kind in ("tensor_spec_value", "bounded_tensor_spec_value", "type_spec_value"):
        yield structure
    elif kind in ("tuple_value", "list_value"):
        for value in getattr(structure, kind).values:
            yield from _leaves(value)
    elif kind == "dict_value":
        for _, value in sorted(structure.dict_value.fields.items()):
            yield from _leaves(value)
    elif kind == "named_tuple_value":
        for pair in structure.named_tuple_value.values:
            yield from _leaves(pair.value)
