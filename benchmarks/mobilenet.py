"""The heavy model of the benchmarks: MobileNetV2 for 224x224x3 images, random weights, made without a download.

Made once and kept, with a few images and their answers, in a folder of this user below the temporary directory: that
takes ten seconds, and TensorFlow, so it is done in another process: `python -m benchmarks.mobilenet PATH`.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks.harness.modules import run_module

IMAGE_SHAPE = (224, 224, 3)
IMAGES = 4
TOLERANCE = 1e-3
"""Tolerance of an answer. Answers to two images differ by 0.1 and more, answers in two batch sizes by 1e-6."""

_FORMAT = 1
_EXAMPLES = "examples.npz"


def export() -> str:
    """The SavedModel's directory: `x` float32 [n, 224, 224, 3] -> `y` float32 [n, 1000], before the softmax."""
    path = _directory()
    if not path.exists():
        made = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            _export_elsewhere(made)
            _put(made, path)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return str(path)


def _put(made: Path, path: Path) -> None:
    try:
        made.rename(path)
    except OSError:
        if not path.exists():  # else another run was faster
            raise


def examples() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images, each [1, 224, 224, 3], and their answers, each [1, 1000]. After `export`."""
    with np.load(_directory() / _EXAMPLES) as kept:
        return [kept["x"][i : i + 1] for i in range(IMAGES)], [kept["y"][i : i + 1] for i in range(IMAGES)]


def _directory() -> Path:
    """Below a folder that is ours alone: what lies there is run as a model."""
    base = Path(tempfile.gettempdir(), f"onesession-models-{os.geteuid()}")
    base.mkdir(mode=0o700, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{base} is not a directory of this user alone: remove it")
    return base / f"mobilenet-{_FORMAT}-keras-{metadata.version('keras')}"


def _export_elsewhere(path: Path) -> None:
    run_module("make MobileNetV2", "benchmarks.mobilenet", str(path), env={"CUDA_VISIBLE_DEVICES": "-1"})


def _make(path: str) -> None:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(7)
    network = keras.applications.MobileNetV2(
        weights=None, input_shape=IMAGE_SHAPE, classifier_activation=None
    )
    x = np.random.default_rng(7).random((IMAGES, *IMAGE_SHAPE), np.float32)
    _normalise(keras, network, x)
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        "serving_default",
        lambda x: {"y": network(x, training=False)},
        input_signature=[tf.TensorSpec([None, *IMAGE_SHAPE], tf.float32, name="x")],
    )
    archive.write_out(path, verbose=False)
    np.savez(Path(path, _EXAMPLES), x=x, y=np.asarray(network(x, training=False)))


def _normalise(keras, network, x: np.ndarray) -> None:
    """One training pass that the normalising layers learn from alone: else random weights let an image's traces die
    away on its way through, and every answer is the same."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    network(x, training=True)


if __name__ == "__main__":
    _make(sys.argv[1])
