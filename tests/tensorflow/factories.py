"""Python factories for tests: each function is called by a broker and returns a model."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from broker import signature

FACTOR = 3.0


def _multiplier() -> tuple[Any, Any, Any]:
    import tensorflow as tf

    v1 = tf.compat.v1
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        factor = v1.get_variable("factor", initializer=FACTOR, use_resource=True)
        y = tf.multiply(x, factor, name="y")
        initialise = v1.global_variables_initializer()
    session = v1.Session(graph=graph)
    session.run(initialise)
    return session, x, y


def session_with_names() -> Any:
    """x * 3, and which tensors those are."""
    session, x, y = _multiplier()
    return session, {"x": x}, {"y": y}


def bare_session() -> Any:
    return _multiplier()[0]


def keras() -> Any:
    """float32 [?, 4] -> x * 3."""
    import tensorflow as tf

    layer = tf.keras.layers.Dense(4, use_bias=False)
    net = tf.keras.Sequential([tf.keras.Input((4,), name="x"), layer])
    layer.set_weights([np.eye(4, dtype=np.float32) * FACTOR])
    return net


def unsafe_keras() -> Any:
    """The file at $ONESESSION_TEST_PATH, whose code is trusted."""
    import tensorflow as tf

    return tf.keras.models.load_model(os.environ["ONESESSION_TEST_PATH"], compile=False, safe_mode=False)


def restored() -> Any:
    """The checkpoint of TensorFlow 1 at $ONESESSION_TEST_PATH."""
    import tensorflow as tf

    prefix = os.environ["ONESESSION_TEST_PATH"]
    graph = tf.Graph()
    with graph.as_default():
        session = tf.compat.v1.Session(graph=graph)
        tf.compat.v1.train.import_meta_graph(f"{prefix}.meta").restore(session, prefix)
    return session, {"x": "x:0"}, {"y": "y:0"}


def unbuilt_keras() -> Any:
    import tensorflow as tf

    return tf.keras.Sequential([tf.keras.layers.Dense(4)])


def function() -> Any:
    """x * 3 of a closure, with the sides beside it."""
    factor = np.float32(FACTOR)
    side = ("float32", [None, 4])
    return (lambda x: x * factor), {"x": side}, {"y": side}


def signed_function() -> Any:
    @signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
    def times(x: np.ndarray) -> np.ndarray:
        return x * np.float32(FACTOR)

    return times


def nothing() -> None:
    return None


def raising() -> Any:
    raise OSError("no licence for these weights")


def needs_arguments(path: str, size: int = 3) -> Any:
    return path * size
