"""`mlp`: two dense layers, with weights that every process makes alike. Exported by exporting.py."""

from __future__ import annotations

import numpy as np


def mlp_weights() -> list[np.ndarray]:
    """float32 weights and biases of `mlp`, the same in every process: [128,64], [64], [64,10], [10]."""
    rng = np.random.default_rng(7)
    shapes = [(128, 64), (64,), (64, 10), (10,)]
    return [rng.normal(scale=0.2, size=shape).astype(np.float32) for shape in shapes]


def mlp_answer(x: np.ndarray) -> np.ndarray:
    """The right answer of `mlp` for float32 [n, 128]: float32 [n, 10], to about 1e-6."""
    w1, b1, w2, b2 = mlp_weights()
    logits = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True), np.float32)


def export_mlp(path: str) -> None:
    """float32 [?, 128] `x` -> dense 64 relu -> dense 10 softmax `y`, as a TF2 module."""
    import tensorflow as tf

    module = tf.Module()
    module.w1, module.b1, module.w2, module.b2 = weights = [tf.Variable(w) for w in mlp_weights()]

    @tf.function(input_signature=[tf.TensorSpec([None, 128], tf.float32, name="x")])
    def serve(x):  # type: ignore[no-untyped-def]
        w1, b1, w2, b2 = weights
        return {"y": tf.nn.softmax(tf.matmul(tf.nn.relu(tf.matmul(x, w1) + b1), w2) + b2)}

    module.serve = serve
    tf.saved_model.save(module, path, signatures=serve)
