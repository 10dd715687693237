"""The inputs of the model: generated from its signature, or read from a file of the user."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worker_client.wire.dtypes import STRING, name_of
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import Signature, TensorSpec, format_shape

MOST_INPUTS = 8
"""Different inputs that take turns, so that an answer left from the previous call is detected."""
MOST_BYTES = 64 << 20
"""Maximum size of all inputs of one number of rows together: there are fewer large ones."""
FREE_SIZE = 64
"""The size of a free dimension other than the rows, where none is given."""
_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz ", np.uint8)

Arrays = Mapping[str, np.ndarray]
Maker = Callable[[int], list[Arrays]]
"""The inputs of so many rows (0 where requests have none), each an array for each input of the signature."""


def has_rows(signature: Signature) -> bool:
    """Whether a request can have any number of rows."""
    return bool(signature.inputs) and all(
        spec.shape and spec.shape[0] is None and not spec.component for spec in signature.inputs
    )


def made(signature: Signature, seed: int, shapes: Mapping[str, tuple[int, ...]]) -> Maker:
    """Random inputs, the same for the same seed: floats in [0, 1), integers 0 and 1, strings of 16 letters.

    `shapes` has whole shapes without the rows, by input; other free dimensions are 64. Raises InvalidInput where that
    does not fit, or where only the user can know what an input is.
    """
    unknown = [name for name in shapes if name not in _names(signature)]
    if unknown:
        raise InvalidInput(
            f"--shape {unknown[0]}: the model has the inputs {', '.join(_names(signature))}: {signature}"
        )
    rowed = has_rows(signature)
    for spec in signature.inputs:
        if spec.component or (spec.shape is None and spec.name not in shapes):
            what = f"is {spec}" if spec.component else "may have any number of dimensions"
            raise InvalidInput(
                f"input {spec.name!r} {what}, which cannot be generated; give an example with --input"
            )
        if not spec.accepts(_shape(spec, 1, rowed, shapes)):
            raise InvalidInput(
                f"--shape {spec.name}={','.join(map(str, shapes[spec.name]))}: the input is {spec}"
                + (", whose first dimension counts the rows and is left out" if rowed else "")
            )

    def make(rows: int) -> list[Arrays]:
        rng = np.random.default_rng([seed, rows])
        wanted = {spec.name: (spec, _shape(spec, rows, rowed, shapes)) for spec in signature.inputs}
        count = _count(sum(int(np.prod(shape)) * spec.dtype.itemsize for spec, shape in wanted.values()))
        return [
            {name: _random(spec.dtype, shape, rng) for name, (spec, shape) in wanted.items()}
            for _ in range(count)
        ]

    return make


def from_file(path: Path, signature: Signature) -> Maker:
    """An .npz with an array for each input, an .npy for the only one, or a .json with lists.

    Where requests have rows, the arrays have as many as the user likes, and are cut into requests in their order, from
    the beginning again at their end; an array of a single row may leave that dimension out. Raises InvalidInput that
    names the file, the input, what was expected and what came.
    """
    arrays = _fitting(path, signature, _named(path, signature, _read(path)))
    if not has_rows(signature):
        return lambda _rows: [arrays]
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not min(lengths.values()):
        counts = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise InvalidInput(f"{path}: all inputs need the same number of rows, at least one; {counts}")
    total = next(iter(lengths.values()))

    def cut(rows: int) -> list[Arrays]:
        nbytes = sum(array.nbytes for array in arrays.values()) * rows // total
        count = min(_count(nbytes), max(1, total // rows))
        return [
            {
                name: np.ascontiguousarray(array.take(range(start, start + rows), axis=0, mode="wrap"))
                for name, array in arrays.items()
            }
            for start in range(0, count * rows, rows)
        ]

    return cut


# --- made ---


def _names(signature: Signature) -> list[str]:
    return [spec.name for spec in signature.inputs]


def _shape(
    spec: TensorSpec, rows: int, rowed: bool, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...]:
    if spec.name in shapes:
        return (rows, *shapes[spec.name]) if rowed else shapes[spec.name]
    sizes = [FREE_SIZE if size is None else size for size in spec.shape or ()]
    return (rows, *sizes[1:]) if rowed else tuple(sizes)


def _count(nbytes: int) -> int:
    return max(1, min(MOST_INPUTS, MOST_BYTES // max(1, nbytes)))


def _random(dtype: np.dtype, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if dtype == STRING:
        texts = np.empty(shape, object)
        for index in np.ndindex(shape):
            texts[index] = rng.choice(_LETTERS, 16).tobytes()
        return texts
    if dtype.kind in "biu":
        return rng.integers(0, 2, shape).astype(dtype)
    try:
        return np.asarray(rng.random(shape), dtype)
    except TypeError:  # of ml_dtypes' whole numbers of few bits
        return np.zeros(shape, dtype)


# --- from a file ---


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".json":
            return json.loads(path.read_text())
        if path.suffix in (".npy", ".npz"):
            with path.open("rb") as file:
                stored = np.load(file, allow_pickle=False)
                return (
                    stored if isinstance(stored, np.ndarray) else {key: stored[key] for key in stored.files}
                )
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from None
    raise InvalidInput(f"{path}: expected an .npz, .npy or .json file")


def _named(path: Path, signature: Signature, read: Any) -> dict[str, Any]:
    """Arrays or lists by input."""
    names = _names(signature)
    if not isinstance(read, Mapping):
        if len(names) != 1:
            raise InvalidInput(
                f"{path} holds one array, and the model takes {len(names)}: {signature}; "
                "store them by name: numpy.savez('inputs.npz', "
                + ", ".join(f"{name}=..." for name in names)
                + ")"
            )
        return {names[0]: read}
    prefix = f"{signature.name}/"  # as a warm-up file has them
    found = {key.removeprefix(prefix): value for key, value in read.items()}
    missing = [name for name in names if name not in found]
    unknown = [name for name in found if name not in names and "/" not in name]
    if missing or unknown:
        has = ", ".join(sorted(read)) or "nothing"
        raise InvalidInput(f"{path} has {has}; the model takes {', '.join(names)}: {signature}")
    return {name: found[name] for name in names}


def _fitting(path: Path, signature: Signature, named: Mapping[str, Any]) -> dict[str, np.ndarray]:
    arrays = {}
    for spec in signature.inputs:
        array = _as_array(path, spec, named[spec.name])
        if not spec.accepts(array.shape) and spec.accepts((1, *array.shape)):
            array = array[None]
        if not spec.accepts(array.shape):
            raise InvalidInput(
                f"{path}: input {spec.name!r} wants shape {format_shape(spec.shape)}, got {list(array.shape)}"
            )
        arrays[spec.name] = array
    return arrays


def _as_array(path: Path, spec: TensorSpec, value: Any) -> np.ndarray:
    """Lists take the input's dtype; arrays must have it, as calls need it."""
    if isinstance(value, np.ndarray):
        if spec.dtype == STRING and value.dtype.kind in "SU":
            return (
                np.char.encode(value, "utf-8").astype(object)
                if value.dtype.kind == "U"
                else value.astype(object)
            )
        if value.dtype != spec.dtype:
            wanted = name_of(spec.dtype)
            raise InvalidInput(
                f"{path}: input {spec.name!r} wants dtype {wanted}, got {value.dtype.name}; "
                f"store it with .astype({wanted!r})"
            )
        return value
    try:
        array = np.asarray(value, spec.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{path}: input {spec.name!r} wants {spec}; the values in the file cannot be converted: {error}"
        ) from None
    if spec.dtype == STRING:
        flat = [text.encode() if isinstance(text, str) else text for text in array.ravel()]
        array = np.array([*flat, None], object)[:-1].reshape(array.shape)
    return array
