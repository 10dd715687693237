"""Numbered versions of Python models on disk, each of which answers with its number."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

_SOURCE = """
import time
import numpy as np
from broker import signature

{before}

@signature(inputs={{"x": ("float32", [None])}}, outputs={{{outputs}}}, independent_rows=True)
def model(x):
    {body}
    return {answer}
"""


class Versions:
    """A folder `models/NAME` as TensorFlow Serving lays it out, but with a `model.py` in each version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    @property
    def source(self) -> str:
        return os.fspath(self.folder)

    def add(self, number: int, *, body: str = "pass", before: str = "", outputs: int = 1) -> None:
        """Put a version there at once, as a deployment should: y = x + number, and so on for other outputs."""
        declared = ", ".join(f'"y{i or ""}": ("float32", [None])' for i in range(outputs))
        answer = ", ".join(f"x + np.float32({number + i})" for i in range(outputs))
        made = self.folder / f".coming.{number}"
        made.mkdir()
        text = _SOURCE.format(before=before, outputs=declared, body=body, answer=answer)
        (made / "model.py").write_text(text)
        made.rename(self.folder / str(number))

    def remove(self, number: int) -> None:
        shutil.rmtree(self.folder / str(number))


ONE = np.zeros(1, np.float32)
"""Whose answer is the number of the version."""
