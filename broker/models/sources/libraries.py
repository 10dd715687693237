"""Loads what a model needs in the process before it is opened: Python modules, and libraries with ops."""

from __future__ import annotations

import importlib
from pathlib import Path

from broker.models.errors import RAISED_BY_CODE, ModelLoadError
from broker.models.spec import ModelSpec
from broker.models.tf.callables import text_of
from broker.models.tf.runtime import tf

_loaded: set[Path] = set()
"""Libraries that are loaded already: TensorFlow reports an error if ops are registered twice in a process."""


def load(spec: ModelSpec) -> None:
    """Import `spec.imports` and load `spec.op_libraries`. Raises ModelLoadError."""
    for name in spec.imports:
        try:
            importlib.import_module(name)
        except RAISED_BY_CODE as error:
            raise ModelLoadError.of(
                spec.name,
                spec.source,
                f"importing {name!r} (its setting imports) raised {type(error).__name__}: {error}",
                f"Install it, or make `python -c 'import {name}'` work in the broker's environment",
            ) from error
    for library in spec.op_libraries:
        path = Path(library).expanduser().resolve()
        if path in _loaded:
            continue
        if not path.is_file():
            raise ModelLoadError.of(
                spec.name,
                spec.source,
                f"its library of ops {path} does not exist",
                "Give the path of a shared library (--load-op-library, or the setting op_libraries)",
            )
        try:
            tf.load_op_library(str(path))
        except Exception as error:
            raise ModelLoadError.of(
                spec.name,
                spec.source,
                f"its library of ops {path} cannot be loaded: {text_of(error)}",
                f"Build it for this TensorFlow ({tf.__version__}): tf.sysconfig.get_compile_flags() has "
                "the flags",
            ) from error
        _loaded.add(path)
