"""Recognises the kind of model at a path by its name or its first bytes. Does not use TensorFlow."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

GRAPH_FILES = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")
"""A directory with one of these files is a SavedModel."""
HUB_FILE = "tfhub_module.pb"
"""The file beside it if the SavedModel is a module of TF1's TensorFlow Hub."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
_FROZEN_SUFFIXES = (".pb", ".pbtxt", ".graphdef")
_LITE_SUFFIX = ".tflite"
_LITE_IDENTIFIER = b"TFL3"


class SourceKind(Enum):
    """The kind of a source. The value is its name in messages."""

    SAVED_MODEL = "a SavedModel"
    KERAS = "a Keras file"
    FROZEN = "a frozen graph"
    LITE = "a LiteRT file"


def kind_of(path: Path) -> SourceKind | None:
    """The kind of the model at exactly this path; None if there is none. Raises OSError."""
    if path.is_dir():
        return SourceKind.SAVED_MODEL if any((path / name).is_file() for name in GRAPH_FILES) else None
    if path.name in GRAPH_FILES or path.name == HUB_FILE or not path.is_file():
        return None
    if path.name.endswith(".weights.h5"):
        return None
    if path.suffix == _LITE_SUFFIX:
        return SourceKind.LITE
    if path.suffix in _KERAS_SUFFIXES or is_hdf5(path):
        return SourceKind.KERAS
    return SourceKind.FROZEN if path.suffix in _FROZEN_SUFFIXES else None


def is_hdf5(path: Path) -> bool:
    """Whether it is an HDF5 file, by its first bytes. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_HDF5)) == _HDF5


def is_lite(path: Path) -> bool:
    """By the identifier that stands behind the first offset of a LiteRT file. Raises OSError."""
    with path.open("rb") as file:
        return file.read(8)[4:] == _LITE_IDENTIFIER


def is_hub_module(directory: Path) -> bool:
    return (directory / HUB_FILE).is_file()


def files_in(directory: Path) -> list[Path]:
    """The models among a directory's files, by name. Raises OSError."""
    return sorted(path for path in directory.iterdir() if path.is_file() and kind_of(path) is not None)
