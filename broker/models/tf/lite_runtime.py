"""The interpreter of LiteRT (TensorFlow Lite) files and the schema of these files.

Those of the package ai-edge-litert where it is installed, for which no TensorFlow is imported; else those that come
with TensorFlow, until it drops them.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any, NamedTuple


class Lite(NamedTuple):
    interpreter: Any
    """The class."""
    schema: Any
    """The generated module that reads a file's tables."""

    def open(self, content: bytes, threads: int) -> Any:
        """An interpreter of this file's content, which is not copied. Raises ValueError, RuntimeError."""
        # TensorFlow says at each call that its interpreter will go; nobody who reads the broker's log can change that.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
        return self.interpreter(model_content=content, num_threads=threads)


def find() -> Lite:
    """Raises ImportError if there is neither."""
    try:
        interpreter = importlib.import_module("ai_edge_litert.interpreter")
        return Lite(interpreter.Interpreter, importlib.import_module("ai_edge_litert.schema_py_generated"))
    except ImportError:
        from broker.models.tf import runtime

        return Lite(*runtime.lite())
