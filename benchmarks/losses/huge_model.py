"""A SavedModel whose answers are huge: `python -m benchmarks.losses.huge_model PATH` writes it."""

from __future__ import annotations

import sys

import numpy as np

WIDTH = 1 << 24
"""Values of a row of its output: 64 MiB of float32."""
LOOKS = 16


def sample(y: np.ndarray) -> np.ndarray:
    """Values from the first to the last, enough to see that all of it came over: float32 [n, 16], a copy."""
    return y[:, np.linspace(0, y.shape[1] - 1, LOOKS, dtype=int)]


def answer(x: np.ndarray) -> np.ndarray:
    """The model's answer as `sample` reads it."""
    return np.repeat(x[:, :1], LOOKS, axis=1)


def export(path: str) -> None:
    """float32 [?, 128] `x` -> `y` [?, 2**24], the first value of each row again and again."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 128], tf.float32, name="x")])
    def serve(x):  # type: ignore[no-untyped-def]
        return {"y": tf.tile(x[:, :1], [1, WIDTH])}

    module.serve = serve
    tf.saved_model.save(module, path, signatures=serve)


if __name__ == "__main__":
    export(sys.argv[1])
