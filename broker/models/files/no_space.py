"""Recognises exports that fail because the disk is full, which Keras reports with the message of whichever layer
failed."""

from __future__ import annotations

from pathlib import Path

from broker.models.cache_folder import cache_folder
from broker.models.files.keras_check import KerasProblem

_SIGNS = ("No space left on device", "Disk quota exceeded")


def problem_with(error: BaseException, target: Path) -> KerasProblem | None:
    """The problem, with the folder and the variable that names another one, if a full disk is why `target` could not be
    written."""
    if not any(sign in str(error) for sign in _SIGNS):
        return None
    cache = cache_folder("")
    variable, folder = ("XDG_CACHE_HOME", cache) if cache in target.parents else ("TMPDIR", target.parents[1])
    return KerasProblem(
        f"no space is left in {folder}, into which Keras exports it",
        f"Make room there, or set {variable} to a folder that has it",
    )
