"""Explains why a model cannot be read: the file or folder, its owner, and the remedy."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from broker.models.errors import ModelLoadError
from broker.models.spec import ModelSpec

_DENIED = (errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def reading(spec: ModelSpec) -> Iterator[None]:
    """Turn an OSError of the block into a ModelLoadError that names the unreadable file."""
    try:
        yield
    except OSError as error:
        raise unreadable(spec, error) from None


def unreadable(spec: ModelSpec, error: OSError, path: Path | None = None) -> ModelLoadError:
    """The error for a model whose `path`, or else the file that `error` names, cannot be read."""
    if path is None:
        path = Path(os.fsdecode(error.filename) if error.filename else spec.source).expanduser()
    why = error.strerror or str(error)
    if error.errno not in _DENIED:
        return ModelLoadError.of(
            spec.name, spec.source, f"{path} cannot be read: {why}", "Check the disk that holds it"
        )
    return ModelLoadError.of(
        spec.name,
        spec.source,
        f"{path} cannot be read by uid {os.geteuid()}: {why}{_whose(path)}",
        "Make it readable for the broker's user (chmod, chown), or run the broker as a user who may read it",
    )


def _whose(path: Path) -> str:
    """The first folder of the path that denies access, or else the file itself, with its owner and mode."""
    path = Path(os.path.abspath(path))
    for place in [*reversed(path.parents), path]:
        wanted = os.X_OK if place != path else os.R_OK
        try:
            found = place.stat()
        except OSError:
            return ""
        if not os.access(place, wanted, effective_ids=True):
            what = "folder " if stat.S_ISDIR(found.st_mode) else ""
            return f" ({what}{place} belongs to uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o})"
    return ""
