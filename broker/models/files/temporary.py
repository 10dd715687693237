"""The folder that a Keras model is exported into. A container with a read-only file system may have no place for it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from broker.models.errors import ModelLoadError
from broker.models.spec import ModelSpec

PREFIX = "onesession-keras-"


@contextlib.contextmanager
def temporary_folder(spec: ModelSpec, preferred: Path | None = None) -> Iterator[Path]:
    """A new folder in `preferred`, or else in the folder for temporary files; removed after the block. Raises
    ModelLoadError if there is none."""
    try:
        made = tempfile.TemporaryDirectory(prefix=PREFIX, dir=preferred)
    except OSError as error:
        if preferred is None:
            raise _refused(spec, error) from None
        with temporary_folder(spec) as folder:
            yield folder
        return
    with made as name:
        yield Path(name)


def _refused(spec: ModelSpec, error: OSError) -> ModelLoadError:
    return ModelLoadError.of(
        spec.name,
        spec.source,
        f"Keras needs a folder to export it into: {error.strerror}",
        "Set XDG_CACHE_HOME or TMPDIR to a folder that can be written (docker run --tmpfs /tmp)",
    )
