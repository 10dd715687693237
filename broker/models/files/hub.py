"""Handles of TensorFlow Hub (`https://tfhub.dev/...`, `https://www.kaggle.com/models/...`) whose modules are already on
disk. Nothing is downloaded.

The library that downloaded a module decides its path. tensorflow_hub (compressed_module_resolver.py): the SHA-1 of the
handle as written, in $TFHUB_CACHE_DIR, else in `tfhub_modules` of the folder for temporary files. kagglehub (cache.py):
`models/OWNER/MODEL/FRAMEWORK/VARIATION/VERSION` in $KAGGLEHUB_CACHE, else in ~/.cache/kagglehub.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

HUB_VARIABLE = "TFHUB_CACHE_DIR"
KAGGLE_VARIABLE = "KAGGLEHUB_CACHE"
_PART = r"([\w.\-]+)"
_KAGGLE = re.compile(
    rf"https?://(?:www\.)?kaggle\.com/models/{_PART}/{_PART}/(?:frameworks/)?{_PART}/(?:variations/)?{_PART}"
    r"/(?:versions/)?(\d+)/?"
)


def is_handle(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def places_of(handle: str) -> list[Path]:
    """The possible paths of this module, whether it exists or not: in the cache of tensorflow_hub, or of kagglehub."""
    digest = hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()
    places = [_folder(HUB_VARIABLE, Path(tempfile.gettempdir(), "tfhub_modules")) / digest]
    if kaggle := _KAGGLE.fullmatch(handle):
        owner, model, framework, variation, version = kaggle.groups()
        kept = _folder(KAGGLE_VARIABLE, Path.home() / ".cache" / "kagglehub") / "models" / owner / model
        # The page's address has TensorFlow2, kagglehub's handle has tensorFlow2.
        frameworks = dict.fromkeys((framework, framework[0].lower() + framework[1:]))
        places += [kept / name / variation / version for name in frameworks]
    return places


def _folder(variable: str, default: Path) -> Path:
    named = os.environ.get(variable)
    return Path(named).expanduser() if named else default
