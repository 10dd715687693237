"""TensorFlow 2's own ways to call a model in the caller's process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.arms.one_worker.session import DEFAULT_THREADS
from benchmarks.harness.timed import Timed
from benchmarks.models.mlp import mlp_weights
from benchmarks.workloads import Workload


@contextmanager
def signature(workload: Workload, path: str, threads: int = DEFAULT_THREADS) -> Iterator[Timed]:
    """`tf.saved_model.load(path).signatures["serving_default"]`, called with a numpy array."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    loaded = tf.saved_model.load(path)
    call = loaded.signatures["serving_default"]
    (feed,) = call.structured_input_signature[1]
    (fetch,) = call.structured_outputs

    def answer(x: np.ndarray) -> np.ndarray:
        found: np.ndarray = call(**{feed: tf.constant(x)})[fetch].numpy()
        return found

    yield Timed(answer)


@contextmanager
def keras_call(workload: Workload, path: str, threads: int = DEFAULT_THREADS) -> Iterator[Timed]:
    """`model(x)` of a Keras model with the weights of `mlp`. `path` is not read."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    first, last = (tf.keras.layers.Dense(64, "relu"), tf.keras.layers.Dense(10, "softmax"))
    model = tf.keras.Sequential([tf.keras.layers.Input((128,)), first, last])
    model.set_weights(mlp_weights())

    def answer(x: np.ndarray) -> np.ndarray:
        found: np.ndarray = model(x, training=False).numpy()
        return found

    yield Timed(answer)
