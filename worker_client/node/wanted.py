"""The broker that a process asks for on its node: the text of its configuration, and the address computed from it.

    user, version and protocol of onesession, Python's environment, configuration, job, the models' files  ->  digest

The files are checked whenever a process attaches, on the node where it attaches: a process that attaches after a model
was changed does not get a broker with the old model.
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
"""The default for `tune`: a broker that is started by a waiting call does not spend time on measurements."""


@dataclass(frozen=True)
class Wanted:
    """Models and settings of a node broker, as a value: equal ones share a connection in each process, and a broker on
    each node."""

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
        """Make the value from the arguments of `node.shared`. Raises InvalidInput; the broker checks the settings at
        the first call."""
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
        """The path of the broker's socket for the files as they are now. Raises BrokerError if no socket can have that
        path."""
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
    """`value` with absolute paths, because the broker runs in another directory. The paths are appended to `files`."""
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
