"""Numbered versions of Python models on disk, each of which answers with its number."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from broker.control_plane.query import ask
from tests.brokers import TestBroker

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


def reload(broker: TestBroker, *models: str, **fields: Any) -> dict[str, Any]:
    """What became of each of them."""
    found: dict[str, Any] = ask(broker.address, "reload", 60, models=list(models), **fields)["models"]
    return found[models[0]] if len(models) == 1 else found


def version_of(model: Any) -> int:
    return int(model.predict(ONE)[0])


def states(broker: TestBroker, model: str) -> dict[int, str]:
    versions = ask(broker.address, "models")["models"][model]["versions"]
    return {version["version"]: version["state"] for version in versions}
