"""The folder that a Keras model is exported into. A container with a read-only file system may have no place for it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from broker.models.errors import ModelLoadError
from broker.models.spec import ModelSpec

_PREFIX = "onesession-keras-"


@contextlib.contextmanager
def temporary_folder(spec: ModelSpec, preferred: Path | None = None) -> Iterator[Path]:
    """A new folder in `preferred`, or else in the folder for temporary files; removed after the block. Raises
    ModelLoadError if there is none."""
    with _made(spec, preferred) as name:
        yield Path(name)


def _made(spec: ModelSpec, preferred: Path | None) -> tempfile.TemporaryDirectory[str]:
    if preferred is not None:
        with contextlib.suppress(OSError):
            return tempfile.TemporaryDirectory(prefix=_PREFIX, dir=preferred)
    try:
        return tempfile.TemporaryDirectory(prefix=_PREFIX)
    except OSError as error:
        raise _refused(spec, error) from None


def _refused(spec: ModelSpec, error: OSError) -> ModelLoadError:
    return ModelLoadError.of(
        spec.name,
        spec.source,
        f"Keras needs a folder to export it into: {error.strerror}",
        "Set XDG_CACHE_HOME or TMPDIR to a folder that can be written (docker run --tmpfs /tmp)",
    )
