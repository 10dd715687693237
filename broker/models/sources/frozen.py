"""Opens frozen graphs: a GraphDef whose variables were converted to constants, with tensor names instead of
signatures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from broker.models.errors import ModelLoadError
from broker.models.sources.tables import initialise_tables
from broker.models.spec import ModelSpec
from broker.models.tf.callables import text_of
from broker.models.tf.runtime import tf

_NO_RESULT = ("Assert", "Const", "NoOp", "Placeholder", "PlaceholderWithDefault")
_MOST = 8


def fill(spec: ModelSpec, path: Path, session: Any) -> tuple[Mapping[str, Any], Any]:
    """Import the graph at `path` into the session; returns no signatures, and its GraphDef. Raises ModelLoadError."""
    graph_def = _read(spec, path)
    try:
        with session.graph.as_default():
            tf.import_graph_def(graph_def, name="")
        initialise_tables(session)
    except Exception as error:
        raise _refused(
            spec,
            f"its graph cannot be imported: {text_of(error)}",
            "Serve it with the TensorFlow that made it",
        ) from error
    return {}, graph_def


def names_of(spec: ModelSpec, graph: Any) -> tuple[dict[str, str], dict[str, str]]:
    """The input and output tensors by name, for a graph whose spec omits one or both.

    The default inputs are all placeholders; the default output is the tensor that no operation reads, if there is only
    one. Raises ModelLoadError with the candidates.
    """
    inputs = [op.outputs[0] for op in graph.get_operations() if op.type == "Placeholder"]
    unread = [
        tensor
        for op in graph.get_operations()
        if op.type not in _NO_RESULT
        for tensor in op.outputs
        if not tensor.consumers() and tensor.dtype != tf.resource
    ]
    if len(unread) != 1:
        raise _refused(
            spec,
            "a graph by itself does not say what its outputs are",
            f"Name them: outputs = ['y=softmax:0']. Its placeholders are {_listed(inputs)}; tensors that "
            "nothing reads "
            f"are {_listed(unread)}",
        )
    return {_own_name(tensor): tensor.name for tensor in inputs}, {_own_name(unread[0]): unread[0].name}


def _own_name(tensor: Any) -> str:
    return str(tensor.op.name).rpartition("/")[2]


def _listed(tensors: list[Any]) -> str:
    shown = [f"{tensor.name} ({tensor.dtype.name}{_shape(tensor.shape)})" for tensor in tensors[:_MOST]]
    more = f" and {len(tensors) - _MOST} more" if len(tensors) > _MOST else ""
    return (", ".join(shown) or "none") + more


def _shape(shape: Any) -> str:
    if shape.rank is None:
        return "[...]"
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _read(spec: ModelSpec, path: Path) -> Any:
    graph_def = tf.compat.v1.GraphDef()
    try:
        content = path.read_bytes()
        if path.suffix == ".pbtxt":
            text_format.Parse(content, graph_def)
        else:
            graph_def.ParseFromString(content)
    except (OSError, DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise _refused(spec, f"{path} is not a GraphDef: {error}", "Copy or freeze it again") from error
    if not graph_def.node:
        raise _refused(spec, f"{path} is not a GraphDef: it has no nodes", "Copy or freeze it again")
    return graph_def


def _refused(spec: ModelSpec, cause: str, remedy: str) -> ModelLoadError:
    return ModelLoadError.of(spec.name, spec.source, cause, remedy)
