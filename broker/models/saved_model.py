"""Where a SavedModel lies on disk: its directory, the version taken, and what is missing if it is none."""

from __future__ import annotations

from pathlib import Path

from broker.models.errors import ModelLoadError
from broker.models.spec import ModelSpec

GRAPH_FILES = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")
_EXPORT = (
    "Export a model with tf.saved_model.save(module, path, signatures=...) or, in Keras, model.export(path)"
)


def locate(spec: ModelSpec) -> tuple[Path, int]:
    """The directory that holds the graph file, and its version. Raises ModelLoadError.

    A directory of numbered versions, as TensorFlow Serving lays them out (`digits/1`, `digits/2`), gives the
    highest number; a SavedModel directory itself is version 1.
    """
    path = Path(spec.source).expanduser()
    _check_is_directory(spec, path)
    if _holds_graph(path):
        return path, 1
    versions = sorted(_versions(path))
    if not versions:
        raise _refused(
            spec, f"{path} is no SavedModel: it holds no saved_model.pb and no numbered versions", _EXPORT
        )
    number = versions[-1]
    taken = next(p for p in path.iterdir() if p.name.isdecimal() and int(p.name) == number and p.is_dir())
    if not _holds_graph(taken):
        raise _refused(
            spec,
            f"its highest version {taken} is no SavedModel: it holds no saved_model.pb",
            "Finish the copy of this version, or move it away to serve an older one",
        )
    return taken, number


def weight_bytes(directory: Path) -> int:
    """The bytes of graph and variables on disk: a first guess at how heavy the model is."""
    files = [*directory.glob("saved_model.*"), *directory.glob("variables/variables.data-*")]
    return sum(file.stat().st_size for file in files)


def missing_variables(directory: Path) -> Path | None:
    """The index file that every set of variables has, if it is not there."""
    index = directory / "variables" / "variables.index"
    return None if index.exists() else index


def _check_is_directory(spec: ModelSpec, path: Path) -> None:
    try:
        path.stat()
    except FileNotFoundError:
        raise _refused(
            spec,
            f"{path} does not exist (looked in {Path.cwd()})"
            if not path.is_absolute()
            else f"{path} does not exist",
            "Give the path of a SavedModel directory, or module:function for a Python callable",
        ) from None
    except OSError as error:
        raise _refused(
            spec, f"{path} cannot be read: {error.strerror}", "Make it readable for the broker's user"
        ) from error
    if path.is_dir():
        return
    if path.name in GRAPH_FILES:
        raise _refused(spec, f"{path} is a file", f"Give the directory that holds it: {path.parent}")
    if path.suffix in (".keras", ".h5"):
        raise _refused(
            spec,
            f"{path} is a Keras file, not a SavedModel",
            "Convert it once: keras.models.load_model(file).export(path)",
        )
    raise _refused(spec, f"{path} is a file and not a directory", _EXPORT)


def _holds_graph(directory: Path) -> bool:
    return any((directory / name).is_file() for name in GRAPH_FILES)


def _versions(path: Path) -> list[int]:
    return [int(child.name) for child in path.iterdir() if child.name.isdecimal() and child.is_dir()]


def _refused(spec: ModelSpec, cause: str, remedy: str) -> ModelLoadError:
    return ModelLoadError.of(spec.name, spec.source, cause, remedy)
