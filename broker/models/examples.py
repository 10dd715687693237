"""Example inputs with which a model is warmed up: from the user's .npz file, otherwise from the model's folder.

An .npz file has an array for each input (`x`), or for each input of one signature (`serving_default/x`); strings are
numpy's bytes. In the folder, they are where TensorFlow Serving looks for them: see `sources/warmup_requests.py`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from broker.models.aligned import aligned_empty
from broker.models.errors import ModelLoadError
from broker.models.spec import ModelSpec
from worker_client.wire.signature import Signature

Feeds = tuple[np.ndarray, ...]
"""One array for each input of a signature, in the signature's order."""
Examples = Mapping[str, Sequence[Feeds]]
"""The examples of each signature, by name."""


def of_spec(spec: ModelSpec, signatures: Mapping[str, Signature]) -> dict[str, list[Feeds]]:
    """The examples in `spec.warmup`; none if it names no file. Raises ModelLoadError, also if the examples fit no
    signature."""
    if spec.warmup is None or spec.warmup is False:
        return {}
    path = Path(spec.warmup).expanduser()
    arrays = _read(spec, path)
    found: dict[str, list[Feeds]] = {}
    reasons: list[str] = []
    for name, signature in signatures.items():
        own = {key.partition("/")[2]: array for key, array in arrays.items() if key.startswith(f"{name}/")}
        feeds = fitting(signature, own or {key: a for key, a in arrays.items() if "/" not in key})
        if isinstance(feeds, str):
            reasons.append(f"{name}: {feeds}")
        else:
            found[name] = [feeds]
    if not found:
        raise ModelLoadError.of(
            spec.name,
            spec.source,
            f"its warmup file {path} has {', '.join(sorted(arrays)) or 'nothing'}, which fits no signature "
            f"({'; '.join(reasons)})",
            "Give it an array for each input: numpy.savez('warmup.npz', x=...)",
        )
    return found


def fitting(signature: Signature, arrays: Mapping[str, np.ndarray]) -> Feeds | str:
    """The arrays in the form that the signature takes, or the reason why they do not fit."""
    feeds: list[np.ndarray] = []
    for spec in signature.inputs:
        if spec.name in arrays:
            array = np.asarray(arrays[spec.name])
        elif spec.default is not None:
            array = spec.default.array(spec.dtype)
        else:
            return f"the input {spec.name!r} is missing"
        if spec.dtype.hasobject and array.dtype.kind in "SU":
            array = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
            array = array.astype(object)
        if array.dtype != spec.dtype or not spec.accepts(array.shape):
            return f"the input {spec.name!r} is {spec}, not {array.dtype.name}{list(array.shape)}"
        feeds.append(aligned(array))
    if signature.batchable and len({len(feed) for feed in feeds}) > 1:
        return "its inputs differ in their number of rows"
    if signature.batchable and not len(feeds[0]):
        return "it has no rows"
    return tuple(feeds)


def with_rows(signature: Signature, feeds: Feeds, rows: int) -> Feeds:
    """The example with `rows` rows, repeated or cut; unchanged if the signature has no rows."""
    if not signature.batchable:
        return feeds
    return tuple(aligned(np.resize(feed, (rows, *feed.shape[1:]))) for feed in feeds)


def aligned(array: np.ndarray) -> np.ndarray:
    made = aligned_empty(array.shape, array.dtype)
    made[...] = array
    return made


def together(parts: Iterable[Examples]) -> dict[str, list[Feeds]]:
    found: dict[str, list[Feeds]] = {}
    for part in parts:
        for name, feeds in part.items():
            found.setdefault(name, []).extend(feeds)
    return found


def _read(spec: ModelSpec, path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if isinstance(stored, np.ndarray):
                raise ValueError("it is one array (.npy), not an archive of named ones")  # noqa: TRY004
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelLoadError.of(
            spec.name,
            spec.source,
            f"its warmup file {path} cannot be read: {error}",
            "Make it with numpy.savez('warmup.npz', x=...)",
        ) from error
