"""Identifies a model by the content of its directory: a copy has the same digest, any change of graph or weights
another.

A model that is a single file is read completely.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from broker.models.kinds import GRAPH_FILES

_READ = (*GRAPH_FILES, "variables/variables.index")
"""The files that are read completely. The index has a checksum of every tensor, so that the large weights need not be
read."""
_CHUNK = 1 << 20


def content_digest(directory: Path) -> str:
    """The hexadecimal digest of a directory or a file, independent of its path and its files' times. Raises OSError."""
    digest = hashlib.sha256()
    if directory.is_file():
        _add_content(digest, directory)
        return digest.hexdigest()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = path.relative_to(directory).as_posix()
        if name == "fingerprint.pb":
            continue  # TensorFlow's own hash of these files, different at each export
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        if name in _READ:
            _add_content(digest, path)
    return digest.hexdigest()


def _add_content(digest: hashlib._Hash, path: Path) -> None:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
