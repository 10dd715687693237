"""Writes SavedModels in another process, for one that forks, or that wants its TensorFlow as a broker has it.

`export(kinds)` from Python, `python -m benchmarks.models.exporting KIND PATH [KIND PATH ...]` from a shell.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.models.mlp import export_mlp
from benchmarks.models.uneven import export_convolutional, export_jpegs, export_unexported

_ROOT = Path(__file__).parents[2]
KINDS: Mapping[str, Callable[[str], None]] = {
    "mlp": export_mlp,
    "jpegs": export_jpegs,
    "convolutional": export_convolutional,
    "unexported": export_unexported,
}
_MODULE = "benchmarks.models.exporting"


def export(kinds: Mapping[str, str | os.PathLike[str]], module: str = _MODULE) -> None:
    """Write {kind: path} in one process, which runs `module`. Raises RuntimeError with its output if it fails."""
    arguments = [text for kind, path in kinds.items() for text in (kind, os.fspath(path))]
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=_ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exporting {dict(kinds)} failed:\n{done.stdout}{done.stderr}")


def main(arguments: Sequence[str], kinds: Mapping[str, Callable[[str], None]]) -> None:
    """What such a module does: `arguments` are pairs of a kind and a path."""
    if not arguments or len(arguments) % 2:
        sys.exit(f"expected KIND PATH [KIND PATH ...]; the kinds are {', '.join(kinds)}")
    for kind, path in zip(arguments[::2], arguments[1::2], strict=True):
        if kind not in kinds:
            sys.exit(f"no kind {kind!r}; the kinds are {', '.join(kinds)}")
        kinds[kind](path)


if __name__ == "__main__":
    main(sys.argv[1:], KINDS)
