"""Writes the chosen settings into a configuration file, and leaves everything else unchanged, including comments."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from broker.models.spec import ModelSpec
from worker_client.wire.errors import InvalidInput

KEYS = ("source", "intra_op_threads", "max_concurrency", "caller_thread", "max_batch_size")


def write(path: Path, specs: Iterable[ModelSpec], onednn: bool | None) -> None:
    """Put these models' settings under [models.NAME], and `onednn` at the top; the file is created if it does not
    exist.

    `onednn` None leaves that key alone. Raises InvalidInput if the file is not TOML or has something else under these
    names, OSError if it cannot be read or written.
    """
    path = Path(os.path.realpath(path))
    document = _read(path)
    if onednn is not None:
        document["onednn"] = "on" if onednn else "off"
    for spec in specs:
        _put(_table(path, document, spec.name), spec)
    _replace(path, tomlkit.dumps(document))


def _read(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return tomlkit.document()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not a TOML file: {error}") from None


def _table(path: Path, document: tomlkit.TOMLDocument, name: str) -> MutableMapping[str, Any]:
    """The table [models.NAME], created if it is missing; `NAME = "source"` under [models] is converted to a table."""
    if "models" not in document:
        document["models"] = tomlkit.table(is_super_table=True)
    models = document["models"]
    if not isinstance(models, MutableMapping):
        raise InvalidInput(f"{path}: `models` is not a table of models but {models!r}")
    found = models.get(name)
    if isinstance(found, MutableMapping):
        return found
    if found is not None:
        del models[name]
    models[name] = tomlkit.table()
    made: MutableMapping[str, Any] = models[name]
    return made


def _put(table: MutableMapping[str, Any], spec: ModelSpec) -> None:
    allowed = table.get("allowed_batch_sizes")
    for key in KEYS:
        value = getattr(spec, key)
        # The last of the sizes allowed is the largest batch: a second, smaller limit beside them would be refused.
        if value is not None and not (key == "max_batch_size" and allowed):
            table[key] = value


def _replace(path: Path, text: str) -> None:
    """Replace the file atomically, with its previous permissions."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, path.stat().st_mode & 0o7777 if path.exists() else 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
