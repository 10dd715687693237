"""Recognises files that the broker cannot serve directly, and says how they can be served. Does not use TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from broker.models.kinds import files_in, kind_of

EXPORT = (
    "Export a model with tf.saved_model.save(module, path, signatures=...) or, in Keras, model.export(path) "
    "or model.save('model.keras')"
)
_WEIGHTS = (
    "Save the whole model with model.save('model.keras'), or serve a factory, module:function, that builds "
    "the model, "
    "calls model.load_weights({path!r}) and returns it"
)
_RUN_IT = "Serve a Python function that runs it, module:function ({how}), or convert it to a SavedModel"
_UNPACK = "Unpack it and give the folder"
_SHOWN = 8


class ForeignFile(NamedTuple):
    """A file that is not a model. `what` is a clause about it, `remedy` a sentence."""

    what: str
    remedy: str


_BY_NAME = {
    ".weights.h5": ForeignFile("it holds weights without a model", _WEIGHTS),
    ".ckpt": ForeignFile("it is a checkpoint: weights without a graph", _WEIGHTS),
    ".onnx": ForeignFile("it is an ONNX model", _RUN_IT.format(how="with onnxruntime")),
    ".pt": ForeignFile("it is a PyTorch model", _RUN_IT.format(how="with torch")),
    ".pth": ForeignFile("it is a PyTorch model", _RUN_IT.format(how="with torch")),
    ".safetensors": ForeignFile(
        "it holds weights without a model", _RUN_IT.format(how="that builds the model")
    ),
    ".pkl": ForeignFile("it is a pickle", _RUN_IT.format(how="that loads it")),
    ".pickle": ForeignFile("it is a pickle", _RUN_IT.format(how="that loads it")),
    ".joblib": ForeignFile("it is a pickle", _RUN_IT.format(how="that loads it")),
    ".npz": ForeignFile("it holds arrays of numpy", _RUN_IT.format(how="that builds the model")),
    ".tgz": ForeignFile("it is an archive: unpack it first", _UNPACK),
    ".tar.gz": ForeignFile("it is an archive: unpack it first", _UNPACK),
    ".tar": ForeignFile("it is an archive: unpack it first", _UNPACK),
    ".zip": ForeignFile("it is an archive: unpack it first", _UNPACK),
}
"""Foreign files by the end of the name."""


def file_at(path: Path) -> ForeignFile:
    """Describe a file that is not a model. Raises OSError."""
    checkpoint = checkpoint_of(path)
    if checkpoint is not None:
        return _checkpoint("it is", checkpoint)
    name = path.name.lower()
    for suffix, foreign_file in _BY_NAME.items():
        if name.endswith(suffix):
            return ForeignFile(
                foreign_file.what,
                weights_remedy(path) if foreign_file.remedy == _WEIGHTS else foreign_file.remedy,
            )
    return ForeignFile("it is not a Keras file, a frozen graph or a LiteRT file", EXPORT)


def weights_remedy(path: Path) -> str:
    return _WEIGHTS.format(path=str(path))


def folder_at(path: Path) -> ForeignFile:
    """Describe a folder that is not a model. Raises OSError."""
    children = sorted(path.iterdir())
    if not children:
        return ForeignFile("it is empty", EXPORT)
    checkpoint = latest_checkpoint(path)
    if checkpoint is not None:
        return _checkpoint("it holds", checkpoint)
    names = [child.name + "/" * child.is_dir() for child in children]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    holds = f"it holds {', '.join(names[:_SHOWN])}{more}"
    models = [
        child for child in children if child.is_dir() and (kind_of(child) is not None or files_in(child))
    ]
    if models:
        return ForeignFile(holds, f"Give the path of the model: {' or '.join(map(str, models[:_SHOWN]))}")
    for child in children:
        if child.is_file() and (foreign_file := file_at(child)).remedy != EXPORT:
            return ForeignFile(f"{holds}; of {child.name}: {foreign_file.what}", foreign_file.remedy)
    return ForeignFile(holds, EXPORT)


# --- checkpoints ---


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint in a folder, without a suffix (`folder/model.ckpt-1000`): of several, the last written."""
    found = [path for path in folder.glob("*.index") if path.is_file() and _data_of(path.with_suffix(""))]
    return max(found, key=lambda path: path.stat().st_mtime_ns).with_suffix("") if found else None


def checkpoint_of(path: Path) -> Path | None:
    """The checkpoint to which this path belongs: one of its files, or its name without a suffix."""
    name, _, ending = path.name.rpartition(".")
    is_part = name and (ending in ("index", "meta") or ending.startswith("data-"))
    for prefix in (path, path.with_name(name)) if is_part else (path,):
        if prefix.with_name(f"{prefix.name}.index").is_file() or _data_of(prefix):
            return prefix
    if path.name == "checkpoint" and path.is_file():
        return latest_checkpoint(path.parent)
    return path.with_name(name) if is_part else None


def _data_of(prefix: Path) -> bool:
    return any(True for _ in prefix.parent.glob(f"{glob_escaped(prefix.name)}.data-*"))


def glob_escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _checkpoint(verb: str, prefix: Path) -> ForeignFile:
    """Describe a checkpoint. TensorFlow 1 writes the graph beside the weights, but without naming inputs and
    outputs."""
    meta = prefix.with_name(f"{prefix.name}.meta")
    if meta.is_file():
        return ForeignFile(
            f"{verb} a checkpoint of TensorFlow 1: weights and a graph without signatures ({prefix})",
            "Serve a factory, module:function, that restores it, tf.compat.v1.train.import_meta_graph("
            f"{str(meta)!r}).restore(session, {str(prefix)!r}), and returns (session, inputs, outputs)",
        )
    return ForeignFile(
        f"{verb} a checkpoint: weights without a graph ({prefix})",
        "Serve a factory, module:function, that builds the model, restores it, "
        "tf.train.Checkpoint(model=model)"
        f".restore({str(prefix)!r}) or model.load_weights({str(prefix)!r}), and returns the model",
    )
