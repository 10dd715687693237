"""Finds variables that a graph reads but that have no value after everything is restored.

`tf.saved_model.save` of a tf.Module writes each variable of a Keras 3 model into the graph twice: `dense/kernel`, which
the signature reads, and a copy `Variable_1`, whose initial value is `dense/kernel`. Only the copy is saved. TF2's own
loader uses the object graph and is not affected; TF1's loader, which makes fast sessions, leaves the variable that is
read without a value. This module assigns the copy's value to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from broker.models.tf.graph import operations_behind
from broker.models.tf.runtime import tf

_RESOURCES = ("VarHandleOp",)
_REFERENCES = ("Variable", "VariableV2")


def read_by(graph: Any, tensors: Iterable[str]) -> list[Any]:
    """The operations of the variables that computing these tensors reads."""
    return [
        operation
        for operation in operations_behind(graph, tensors)
        if operation.type in _RESOURCES or operation.type in _REFERENCES
    ]


def without_value(session: Any, variables: Sequence[Any]) -> set[str]:
    """The names of variables without a value, after copies' values were assigned."""
    empty = _empty(session, variables)
    copies = {variable: copy for variable in empty if (copy := _copy_of(variable)) is not None}
    filled = set(copies.values()) - set(_empty(session, list(copies.values())))
    assignments = [_assign(variable, copy) for variable, copy in copies.items() if copy in filled]
    if assignments:
        session.run(assignments)
    return {variable.name for variable in empty if copies.get(variable) not in filled}


def _empty(session: Any, variables: Sequence[Any]) -> list[Any]:
    if not variables:
        return []
    with session.graph.as_default():
        known = session.run([_has_value(variable) for variable in variables])
    return [variable for variable, has_value in zip(variables, known, strict=True) if not has_value]


def _has_value(variable: Any) -> Any:
    handle = variable.outputs[0]
    if variable.type in _RESOURCES:
        return tf.raw_ops.VarIsInitializedOp(resource=handle)
    return tf.raw_ops.IsVariableInitialized(ref=handle)


def _copy_of(variable: Any) -> Any:
    """The variable whose initial value is this variable."""
    if variable.type not in _RESOURCES:
        return None
    for read in variable.outputs[0].consumers():
        if read.type != "ReadVariableOp":
            continue
        for assign in read.outputs[0].consumers():
            target = assign.inputs[0].op
            if assign.type == "AssignVariableOp" and target.type in _RESOURCES and target is not variable:
                return target
    return None


def _assign(variable: Any, copy: Any) -> Any:
    with variable.graph.as_default():
        value = tf.raw_ops.ReadVariableOp(resource=copy.outputs[0], dtype=variable.get_attr("dtype"))
        return tf.raw_ops.AssignVariableOp(resource=variable.outputs[0], value=value)
