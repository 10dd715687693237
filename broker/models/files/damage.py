"""Finds damage in a model's file without TensorFlow, whose start takes seconds."""

from __future__ import annotations

from pathlib import Path

from broker.models.errors import ModelLoadError
from broker.models.files import keras_check
from broker.models.kinds import SourceKind, is_lite, kind_of
from broker.models.spec import ModelSpec


def check(spec: ModelSpec, path: Path) -> None:
    """Check the file or SavedModel directory at `path`. Raises ModelLoadError, OSError."""
    kind = kind_of(path)
    if kind is SourceKind.KERAS:
        problem = keras_check.problem_with(path)
        if problem is not None:
            raise ModelLoadError.of(spec.name, spec.source, *problem)
        return
    if kind is SourceKind.LITE:
        if not is_lite(path):
            raise ModelLoadError.of(
                spec.name,
                spec.source,
                f"{path} is damaged: it does not begin as a LiteRT file does",
                "Copy or convert the model again",
            )
        return
    graph = path / "saved_model.pb" if kind is SourceKind.SAVED_MODEL else path
    if graph.suffix == ".pb" and graph.is_file() and not _is_message(graph.read_bytes()):
        raise ModelLoadError.of(
            spec.name, spec.source, f"{graph} is damaged or cut off", "Copy or export the model again"
        )


def _is_message(content: bytes) -> bool:
    """Whether it parses as a Protocol Buffers message of any type: a message without fields keeps all fields as
    unknown."""
    try:
        from google.protobuf.empty_pb2 import Empty
        from google.protobuf.message import DecodeError
    except ImportError:  # protobuf comes with TensorFlow
        return True
    try:
        Empty.FromString(content)
    except DecodeError:
        return False
    return bool(content)
