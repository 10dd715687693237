"""Kinds that are Python functions, served as `tests.differential.kinds.python:NAME`."""

from __future__ import annotations

from typing import Any

import numpy as np

from broker import signature
from tests.differential.draw import Draw
from tests.differential.kinds.kind import Kind, Tensors
from tests.differential.kinds.rows import Rows
from tests.differential.kinds.texts import words


@signature(
    inputs={"x": ("float32", [None, None])},
    outputs={"y": ("float32", [None, None])},
    independent_rows=True,
)
def rows(x: np.ndarray) -> np.ndarray:
    return x * 2


@signature(
    inputs={"text": ("string", [None])},
    outputs={"text": ("string", [None]), "length": ("int64", [None])},
    independent_rows=True,
)
def backwards(text: np.ndarray) -> tuple[Any, np.ndarray]:
    return [word[::-1] for word in text], np.array([len(word) for word in text], np.int64)


class PythonRows(Rows):
    """float32 of free width: 2x."""

    name = "python_rows"
    model = "python_rows"

    @property
    def signature(self) -> str:
        return "serving_default"


class PythonText(Kind):
    """Text -> text and numbers; of requests with many words now and then, whose answer needs more room."""

    name = "python_text"
    model = "python_text"

    @property
    def signature(self) -> str:
        return "serving_default"

    def make(self, draw: Draw, tag: int) -> Tensors:
        text = words(draw, tag)
        return {"text": np.tile(text, 30 if draw.one_in(10) else 1)}

    def answer(self, inputs: Tensors) -> Tensors:
        text = inputs["text"]
        return {
            "text": np.array([word[::-1] for word in text], object),
            "length": np.array([len(word) for word in text]),
        }
