"""`python -m tests.differential.export FOLDER`: writes every SavedModel, in a process that has TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.differential import kinds
from tests.differential.kinds.rows import export_classic
from tests.differential.kinds.state import Versioned

ROOT = Path(__file__).parents[2]


def export(folder: Path) -> None:
    """Have another process write them. Raises RuntimeError with its output."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.differential.export", os.fspath(folder)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exporting the models failed:\n{done.stdout}{done.stderr}")


def main(folder: Path) -> None:
    import tensorflow as tf

    for name, some in kinds.exported().items():
        module = tf.Module()
        module.functions = {kind.signature: kind.export(tf, module) for kind in some}
        tf.saved_model.save(module, os.fspath(folder / name), signatures=dict(module.functions))
        if kinds.EMBEDDING in some:
            kinds.EMBEDDING.fill_bank(module.functions[kinds.EMBEDDING.signature], folder / kinds.BANK)
    for version in Versioned.versions:
        module = tf.Module()
        module.serve = Versioned(version).export(tf, module)
        path = folder / "versioned" / str(version)
        tf.saved_model.save(module, os.fspath(path), signatures={"versioned": module.serve})
    export_classic(os.fspath(folder / "classic"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
