"""Finds a model on disk: its file or directory, the chosen version, and what is missing if there is none."""

from __future__ import annotations

import re
from pathlib import Path

from broker.models.errors import ModelLoadError
from broker.models.files import foreign, hub
from broker.models.files.reading import unreadable
from broker.models.kinds import GRAPH_FILES, files_in, kind_of
from broker.models.spec import ModelSpec

_FILE = "file://"
_REMOTE = re.compile(r"(\w[\w+.\-]*)://")
"""The start of gs://bucket/model and similar paths, which TensorFlow could read but the broker does not."""


def locate(spec: ModelSpec) -> tuple[Path, int]:
    """The SavedModel directory, or the file of a known kind, and its version. Raises ModelLoadError.

    A directory of numbered versions, as TensorFlow Serving lays them out (`digits/1`, `digits/2`), gives the
    highest number; anything else is version 1. A directory may hold one file that is a model in place of a SavedModel.
    A handle of TensorFlow Hub is looked up in its cache.
    """
    path = _path(spec)
    versions = sorted(_versions(path)) if path.is_dir() and kind_of(path) is None else []
    if not versions:
        found = _model_at(spec, path)
        if found is None:
            raise _no_model(spec, path)
        return found, 1
    number = versions[-1]
    version = next(p for p in path.iterdir() if p.name.isdecimal() and int(p.name) == number and p.is_dir())
    taken = _model_at(spec, version)
    if taken is None:
        foreign_file = foreign.folder_at(version)
        remedy = "Finish the copy of this version, or move it away to serve an older one"
        if foreign_file.remedy != foreign.EXPORT:
            remedy += f". {foreign_file.remedy}"
        raise _refused(spec, f"its highest version {version} is not a model: {foreign_file.what}", remedy)
    return taken, number


def weight_bytes(path: Path) -> int:
    """The bytes of graph and variables on disk: a first estimate of how heavy the model is."""
    if path.is_file():
        return path.stat().st_size
    files = [*path.glob("saved_model.*"), *path.glob("variables/variables.data-*")]
    return sum(file.stat().st_size for file in files)


def missing_variables(directory: Path) -> Path | None:
    """The index file of the variables, if it is missing; None otherwise."""
    index = directory / "variables" / "variables.index"
    return None if index.exists() else index


def _path(spec: ModelSpec) -> Path:
    """An existing path. Raises ModelLoadError."""
    if hub.is_handle(spec.source):
        return _in_a_cache(spec)
    path = Path(spec.source).expanduser()
    try:
        path.stat()
    except FileNotFoundError:
        if spec.source.startswith(_FILE):
            raise _refused(
                spec, "a model's source is a path, not a URL", f"Write {spec.source.removeprefix(_FILE)}"
            ) from None
        if remote := _REMOTE.match(spec.source):
            raise _refused(
                spec,
                f"it is in {remote[1]!r}, not on this machine",
                "Copy it to a local folder and give that path",
            ) from None
        if foreign.checkpoint_of(path) is not None:  # a checkpoint's name is not the name of a file
            raise _foreign(spec, path, foreign.file_at(path)) from None
        raise _refused(
            spec,
            f"{path} does not exist" + ("" if path.is_absolute() else f" (looked in {Path.cwd()})"),
            "Give the path of a SavedModel directory, a Keras file, a frozen graph or a LiteRT file, "
            "or module:function for a Python callable",
        ) from None
    except OSError as error:
        raise unreadable(spec, error, path) from error
    return path


def _in_a_cache(spec: ModelSpec) -> Path:
    """The cached module of a TensorFlow Hub handle. Raises ModelLoadError."""
    places = hub.places_of(spec.source)
    found = next((place for place in places if place.is_dir()), None)
    if found is not None:
        return found
    variables = [hub.HUB_VARIABLE] + [hub.KAGGLE_VARIABLE] * (len(places) > 1)
    raise _refused(
        spec,
        f"this handle is not in a TensorFlow Hub cache: there is no {', nor '.join(map(str, places))}",
        f"Set {' or '.join(variables)} to the cache that has it, or fill it where there is a network: "
        f"python -c 'import tensorflow_hub as hub; hub.resolve(\"{spec.source}\")'",
    )


def _model_at(spec: ModelSpec, path: Path) -> Path | None:
    """`path` if it is a model, or the only file in it that is one. Raises ModelLoadError."""
    try:
        if kind_of(path) is not None:
            return path
        files = files_in(path) if path.is_dir() else []
        if files and foreign.latest_checkpoint(path) is not None:
            raise _foreign(spec, path, foreign.folder_at(path))  # TensorFlow 1 writes a graph.pbtxt beside it
    except OSError as error:
        raise unreadable(spec, error, path) from error
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise _refused(spec, f"{path} holds several models: {names}", "Give the path of one of them")
    return files[0] if files else None


def _no_model(spec: ModelSpec, path: Path) -> ModelLoadError:
    if path.name in GRAPH_FILES:
        return _refused(spec, f"{path} is a file", f"Give the directory that holds it: {path.parent}")
    try:
        foreign_file = foreign.folder_at(path) if path.is_dir() else foreign.file_at(path)
    except OSError as error:
        return unreadable(spec, error, path)
    return _foreign(spec, path, foreign_file)


def _foreign(spec: ModelSpec, path: Path, foreign_file: foreign.ForeignFile) -> ModelLoadError:
    if path.is_dir():
        looked_for = "no saved_model.pb, no Keras file, no frozen graph (.pb), no .tflite file and no numbered versions"
        return _refused(
            spec, f"{path} holds no model: {looked_for}; {foreign_file.what}", foreign_file.remedy
        )
    return _refused(spec, f"{path} is not a model: {foreign_file.what}", foreign_file.remedy)


def _versions(path: Path) -> list[int]:
    return [int(child.name) for child in path.iterdir() if child.name.isdecimal() and child.is_dir()]


def _refused(spec: ModelSpec, cause: str, remedy: str) -> ModelLoadError:
    return ModelLoadError.of(spec.name, spec.source, cause, remedy)
