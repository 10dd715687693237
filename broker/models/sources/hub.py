"""TensorFlow Hub's handles (`https://tfhub.dev/...`) whose modules are on disk already. Nothing is downloaded.

Where a module lies is tensorflow_hub's own rule (compressed_module_resolver.py): the SHA-1 of the handle as it was
written, in $TFHUB_CACHE_DIR, else in `tfhub_modules` of the folder for temporary files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

CACHE_VARIABLE = "TFHUB_CACHE_DIR"


def is_handle(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def cache_folder() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path(tempfile.gettempdir()) / "tfhub_modules"


def module_folder(handle: str) -> Path:
    """Where tensorflow_hub puts this module, whether it is there or not."""
    return cache_folder() / hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()
