"""Keras left out of TensorFlow's import, which takes it along though a served graph needs none of it.

TensorFlow ends its import with that of Keras, so that Keras can tell it of its optimizers; and Keras imports what it
finds of scikit-learn, SciPy and matplotlib. That is a good part of the time for which all workers wait when a broker is
started again, and some 100 MB. Keras 3 tells TensorFlow nothing. Whoever else asks for Keras, then or later, by
whatever name, finds it as ever.
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
    """Around the first import of TensorFlow."""
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
    """Keras 2, which has optimizers of its own to tell of, is imported as ever."""
    if os.environ.get(_LEGACY) in ("true", "True", "1"):
        return False
    try:
        return metadata.version(_KERAS).startswith("3.")
    except metadata.PackageNotFoundError:
        return False


class _NotForTensorFlow:
    """A finder to which TensorFlow's own statement is an ImportError, for which TensorFlow is prepared. Others get
    none: another thread, or code that waits for TensorFlow's import to do something at its end."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> None:
        if name == _KERAS and _importer() == _TENSORFLOW:
            raise ModuleNotFoundError("Keras is left out of TensorFlow's import", name=name)


def _importer() -> str:
    """The module whose statement it is, on this thread."""
    frame = inspect.currentframe()
    while frame is not None and (_name(frame) == __name__ or _name(frame).partition(".")[0] in _MACHINERY):
        frame = frame.f_back
    return "" if frame is None else _name(frame)


def _name(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
