"""The model of these benchmarks, with 97 MB of weights, and its inputs by number: every answer can be checked.

`python -m benchmarks.node.programs.wide PATH` exports it; TensorFlow is imported there only.
"""

from __future__ import annotations

import sys

import numpy as np

WIDTH, INNER, LAYERS = 128, 2820, 3


def weights() -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    shapes = [(WIDTH, INNER), *[(INNER, INNER)] * LAYERS, (INNER, 1)]
    return [rng.normal(scale=shape[0] ** -0.5, size=shape).astype(np.float32) for shape in shapes]


def inputs(numbers: np.ndarray) -> np.ndarray:
    """float32 [n, WIDTH], as Spark makes them of the same numbers."""
    return ((numbers[:, None] + np.arange(WIDTH)) % 97 / 97).astype(np.float32)


def answers(numbers: np.ndarray) -> np.ndarray:
    """float32 [n], to about 1e-4."""
    *inner, last = weights()
    x = inputs(numbers % 97)
    for w in inner:
        x = np.maximum(x @ w, 0)
    return np.asarray((x @ last)[:, 0], np.float32)


def export(path: str) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.weights = variables = [tf.Variable(w) for w in weights()]

    @tf.function(input_signature=[tf.TensorSpec([None, WIDTH], tf.float32, name="x")])
    def serve(x):
        for w in variables[:-1]:
            x = tf.nn.relu(tf.matmul(x, w))
        return {"y": tf.matmul(x, variables[-1])}

    module.serve = serve
    tf.saved_model.save(module, path, signatures=serve)


if __name__ == "__main__":
    export(sys.argv[1])
