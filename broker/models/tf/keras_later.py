"""Leaves Keras out of TensorFlow's import, which imports it although a served graph does not need it.

TensorFlow imports Keras last, so that Keras can register its optimizers; and Keras imports scikit-learn, SciPy and
matplotlib if they are installed. That takes a large part of the time for which all workers wait during a restart, and
some 100 MB. Keras 3 registers nothing. All other imports of Keras, then or later, under any name, work as usual.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from types import FrameType, ModuleType

_KERAS, _TENSORFLOW = "keras", "tensorflow"
_LEGACY = "TF_USE_LEGACY_KERAS"
_MACHINERY = ("importlib", "_frozen_importlib", "_frozen_importlib_external")


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Leave Keras out of the first import of TensorFlow, in the block."""
    if _TENSORFLOW in sys.modules or not _tells_nothing():
        yield
        return
    finder = _NotForTensorFlow()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def _tells_nothing() -> bool:
    """Whether Keras registers nothing. Keras 2, which registers its optimizers, is imported as usual."""
    if os.environ.get(_LEGACY) in ("true", "True", "1"):
        return False
    try:
        return metadata.version(_KERAS).startswith("3.")
    except metadata.PackageNotFoundError:
        return False


class _NotForTensorFlow:
    """A finder that raises ImportError for TensorFlow's own import statement, which TensorFlow handles. It does not
    affect other threads, nor code that runs at the end of TensorFlow's import."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> None:
        if name == _KERAS and _importer() == _TENSORFLOW:
            raise ModuleNotFoundError("Keras is left out of TensorFlow's import", name=name)


def _importer() -> str:
    """The module that contains the current import statement of this thread."""
    frame = inspect.currentframe()
    while frame is not None and (_name(frame) == __name__ or _name(frame).partition(".")[0] in _MACHINERY):
        frame = frame.f_back
    return "" if frame is None else _name(frame)


def _name(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
