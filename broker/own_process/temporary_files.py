"""Temporary files, for which a container with a read-only file system may have no folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def folder_not_needed() -> Iterator[None]:
    """Let the imports in the block succeed where there is no folder for temporary files: TensorFlow's import looks for
    one, which only test programs use."""
    try:
        tempfile.gettempdir()
    except OSError:
        tempfile.tempdir = os.sep
        try:
            yield
        finally:
            tempfile.tempdir = None
    else:
        yield
