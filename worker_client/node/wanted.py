"""What a process wants of its node's broker: the text of its configuration, and the address that follows from it.

    user, version and protocol of onesession, Python's environment, configuration, job, the models' files  ->  digest

The files are looked at anew whenever a process attaches, and on the node where it does: one that attaches after a
model was changed finds no broker with the old one.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from worker_client.ipc import node_files
from worker_client.node.fingerprint import fingerprint
from worker_client.node.toml import table
from worker_client.wire.address import socket_path
from worker_client.wire.errors import InvalidInput
from worker_client.wire.layout import PROTOCOL

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_PATHS = ("source", "warmup", "op_libraries")
_TUNE = {"tune": "remembered"}
"""Unless it is set: a broker that is started because somebody waits measures nothing."""


@dataclass(frozen=True)
class Wanted:
    """A value: equal ones share a connection in each process, and a broker on each node."""

    config: str
    files: tuple[str, ...]
    idle_seconds: float
    job: str | None
    log: str | None

    @classmethod
    def of(
        cls,
        models: Any,
        idle_seconds: Any,
        job: str | None,
        log: str | os.PathLike[str] | None,
        settings: Mapping[str, Any],
    ) -> Wanted:
        """Raises InvalidInput; what the broker says of the settings comes with the first call."""
        if not isinstance(models, Mapping) or not models:
            raise InvalidInput(
                f"models must be a dict such as {{'digits': '/models/digits'}}, got {models!r}"
            )
        seconds = idle_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 1e9:
            raise InvalidInput(f"idle_seconds must be a number above 0, got {seconds!r}")
        if "name" in settings or "address" in settings:
            raise InvalidInput(
                "a node broker's address is computed from its models and settings; leave out name and address"
            )
        for name, text in (("job", job), ("log", log)):
            if not isinstance(text, (str, os.PathLike, NoneType)):
                raise InvalidInput(f"{name} must be a string, got {text!r}")
        files: list[str] = []
        tables = {name: _model(name, value, files) for name, value in models.items()}
        lines = [*table((), {**_TUNE, **settings})]
        for name, values in sorted(tables.items()):
            lines += table(("models", name), values)
        place = None if log is None else _absolute(os.fspath(log))
        return cls("\n".join(lines) + "\n", tuple(files), float(seconds), job, place)

    def path(self) -> Path:
        """Of the broker's socket, as the files are now. Raises BrokerError where no socket can have that path."""
        digest = hashlib.sha256()
        identity = (os.geteuid(), _version(), PROTOCOL, sys.prefix, self.config, self.job)
        digest.update(repr(identity).encode(errors="surrogateescape"))
        for file in self.files:
            digest.update(fingerprint(file))
        return socket_path(node_files.directory() / node_files.socket_name(digest.hexdigest()))

    def log_of(self, path: Path) -> str:
        return self.log or os.fspath(node_files.of_log(path))


def _model(name: Any, value: Any, files: list[str]) -> dict[str, Any]:
    if not isinstance(name, str):
        raise InvalidInput(f"a model's name must be a string, got {name!r}")
    if isinstance(value, (str, os.PathLike)):
        value = {"source": value}
    if not isinstance(value, Mapping) or "source" not in value:
        raise InvalidInput(
            f"model {name!r}: expected a path, 'module:function' or a dict with a 'source', got {value!r}"
        )
    return {key: _from_here(each, files) if key in _PATHS else each for key, each in value.items()}


def _from_here(value: Any, files: list[str]) -> Any:
    """With absolute paths, for the broker stands elsewhere; `files` gets them."""
    if isinstance(value, (list, tuple)):
        return [_from_here(each, files) for each in value]
    if not isinstance(value, (str, os.PathLike)):
        return value
    text = os.fspath(value)
    if "://" in text or _FUNCTION.fullmatch(text):
        return text
    files.append(_absolute(text))
    return files[-1]


def _absolute(text: str) -> str:
    try:
        return os.path.abspath(os.path.expanduser(text))
    except FileNotFoundError:
        raise InvalidInput(
            f"{text!r} is a relative path, and this process's working directory has been removed: give the whole path"
        ) from None


@functools.cache
def _version() -> str:
    try:
        return importlib.metadata.version("onesession")
    except importlib.metadata.PackageNotFoundError:
        return ""
