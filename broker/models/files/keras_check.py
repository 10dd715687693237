"""Finds problems of a Keras file without Keras, whose start takes seconds."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

from broker.models.files import foreign
from broker.models.kinds import is_hdf5

_CONFIG = "config.json"
_CONFIG_IN_HDF5 = "model_config"
_SAVED_MODEL = "saved_model.pb"
_AGAIN = "Copy or save it again"


class KerasProblem(NamedTuple):
    cause: str
    remedy: str


def problem_with(path: Path) -> KerasProblem | None:
    """Check its first bytes and, if it is a zip archive, the names in it."""
    wants_zip = path.suffix == ".keras"
    if zipfile.is_zipfile(path):
        return _problem_with_archive(path, wants_zip)
    if not is_hdf5(path):
        form = "a zip archive" if wants_zip else "an HDF5 file"
        return KerasProblem(f"{path} is damaged: it is not {form}, as a Keras file must be", _AGAIN)
    if wants_zip:
        return KerasProblem(f"{path} is an HDF5 file, which Keras reads under the name .h5", "Rename it")
    return None


def _problem_with_archive(path: Path, wants_zip: bool) -> KerasProblem | None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inner = next((name for name in names if name.rpartition("/")[2] == _SAVED_MODEL), None)
    if inner is not None:
        return KerasProblem(
            f"{path} is a zip archive with a SavedModel in it ({inner})", "Unpack it and give the folder"
        )
    if any(name.endswith(".weights.h5") for name in names) and _CONFIG not in names:
        return weights_only(path, f"it has no {_CONFIG}")
    if _CONFIG not in names:
        shown = ", ".join(names[:3]) or "nothing"
        return KerasProblem(
            f"{path} is a zip archive with {shown} and no {_CONFIG}, so it is not a Keras file",
            foreign.EXPORT,
        )
    if not wants_zip:
        return KerasProblem(f"{path} is a zip archive, as Keras writes it under the name .keras", "Rename it")
    return None


def problem_with_hdf5(path: Path) -> KerasProblem | None:
    """Check its attributes. For a separate process: it imports h5py, which comes with Keras."""
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(path, "r") as file:
            if _CONFIG_IN_HDF5 in file.attrs:
                return None
    except OSError as error:
        return KerasProblem(f"{path} is damaged: {error}", _AGAIN)
    return weights_only(path, f"it has no attribute {_CONFIG_IN_HDF5}")


def weights_only(path: Path, sign: str) -> KerasProblem:
    return KerasProblem(f"{path} holds weights without a model: {sign}", foreign.weights_remedy(path))


def lambda_remedy(path: Path) -> str:
    """The remedy for a Lambda layer, which is Python code in the file that Keras does not run by default."""
    return (
        "Its Lambda layer is Python code, which Keras does not run from a file: where that code is, make a "
        "SavedModel "
        "with model.export(folder) and serve it; or, if you trust the file, serve a factory, "
        "module:function, that "
        f"returns keras.models.load_model({str(path)!r}, safe_mode=False)"
    )
