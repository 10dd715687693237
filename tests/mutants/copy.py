"""A private copy of the checkout: the code is broken there, so the checkout itself never changes."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NOT_SOURCES = (".git", ".venv*", ".*_cache", ".hypothesis", "site", "dist", "build")


@contextlib.contextmanager
def private_copy() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="onesession-mutants-") as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, ignore=_left_out, symlinks=True)
        yield copy


def environment(copy: Path) -> dict[str, str]:
    """The environment in which programs import the copy instead of the installed checkout.

    Without bytecode files: a mutant often has the size and the modification second of the file it replaces, and Python
    would take the bytecode of that one.
    """
    return {**os.environ, "PYTHONPATH": os.fspath(copy), "PYTHONDONTWRITEBYTECODE": "1"}


def _left_out(folder: str, names: list[str]) -> list[str]:
    at_top = Path(folder) == ROOT
    return [
        name
        for name in names
        if name == "__pycache__" or (at_top and any(fnmatch(name, pattern) for pattern in _NOT_SOURCES))
    ]
