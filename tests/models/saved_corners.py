"""SavedModels from the corners of TensorFlow, made on the fly: more kinds for `tests/models/saved_models.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def _module(**functions) -> object:
    import tensorflow as tf

    module = tf.Module()
    module.functions = functions
    return module


def export_denormals(path: str) -> None:
    """float32 `x` [?] -> `half`, `inverse`, `sum`; `heavy` is the same and takes milliseconds."""
    import tensorflow as tf

    spec = [tf.TensorSpec([None], tf.float32, name="x")]

    @tf.function(input_signature=spec)
    def light(x):
        return {"half": x * 0.5, "inverse": 1.0 / x, "sum": x + x}

    @tf.function(input_signature=spec)
    def heavy(x):
        square = tf.fill([600, 600], tf.reduce_max(x) + 1)
        for _ in range(8):
            square = tf.tanh(square @ square)
        return {**light(x), "work": square[0, :1]}

    tf.saved_model.save(
        _module(light=light, heavy=heavy), path, signatures={"serving_default": light, "heavy": heavy}
    )


def export_windows(path: str) -> None:
    """float32 `waveform` [?], whose first dimension is time -> `scores` [?, 5] of windows of it, as YAMNet."""
    import tensorflow as tf

    weights = tf.constant(np.linspace(-1, 1, 480 * 5, dtype=np.float32).reshape(480, 5))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="waveform")])
    def scores(waveform):
        return {"scores": tf.signal.frame(waveform, 480, 240, pad_end=True) @ weights}

    tf.saved_model.save(_module(scores=scores), path, signatures=scores)


def export_compiled(path: str) -> None:
    """float32 `x` [?, 4] -> `y` = tanh(x) by way of XLA, two functions down; `fixed` takes [2, 4]; `plain` is x * 2."""
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def inner(x):
        return tf.tanh(x)

    @tf.function
    def outer(x):
        return tf.cond(tf.size(x) > 1 << 30, lambda: x, lambda: inner(x))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def compiled(x):
        return {"y": outer(x)}

    @tf.function(input_signature=[tf.TensorSpec([2, 4], tf.float32, name="x")])
    def fixed(x):
        return {"y": inner(x)}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def plain(x):
        return {"y": x * 2}

    signatures = {"serving_default": compiled, "fixed": fixed, "plain": plain}
    tf.saved_model.save(_module(**signatures), path, signatures=signatures)


def export_calls_python(path: str) -> None:
    """`serving_default` is x * 2; `eager` and `numpy` call Python, `numpy` inside a branch of tf.cond."""
    import tensorflow as tf

    spec = [tf.TensorSpec([None, 4], tf.float32, name="x")]

    @tf.function(input_signature=spec)
    def plain(x):
        return {"y": x * 2}

    @tf.function(input_signature=spec)
    def eager(x):
        return {"y": tf.py_function(lambda value: value * 2, [x], tf.float32)}

    @tf.function(input_signature=spec)
    def by_numpy(x):
        halved = lambda: tf.ensure_shape(  # noqa: E731
            tf.numpy_function(lambda value: value / 2, [x], tf.float32), [None, 4]
        )
        return {"y": tf.cond(tf.reduce_sum(x) > 0, halved, lambda: x)}

    signatures = {"serving_default": plain, "eager": eager, "numpy": by_numpy}
    tf.saved_model.save(_module(**signatures), path, signatures=signatures)


def export_only_python(path: str) -> None:
    """A model that cannot be run outside the process that made it."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def eager(x):
        return {"y": tf.py_function(lambda value: value * 2, [x], tf.float32)}

    tf.saved_model.save(_module(eager=eager), path, signatures=eager)


def export_defaults(path: str) -> None:
    """Signatures whose inputs have defaults: scalars, texts, a row, and a large table."""
    import tensorflow as tf

    two, prefix_text, both = tf.constant(2.0), tf.constant("né:"), tf.constant([3, 4], tf.int64)
    one_row, many = tf.constant([[1.0, 2.0]]), tf.range(100_000, dtype=tf.float32)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="x"),
            tf.TensorSpec([], tf.float32, name="temperature"),
        ]
    )
    def scaled(x, temperature=two):
        return {"y": x / temperature}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="text"),
            tf.TensorSpec([], tf.string, name="prefix"),
            tf.TensorSpec([2], tf.int64, name="counts"),
        ]
    )
    def joined(text, prefix=prefix_text, counts=both):
        return {"joined": prefix + text, "counted": tf.strings.as_string(tf.reduce_sum(counts)) + text}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="x"),
            tf.TensorSpec([None, 2], tf.float32, name="offset"),
        ]
    )
    def shifted(x, offset=one_row):
        return {"y": x + offset}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="x"),
            tf.TensorSpec([100_000], tf.float32, name="table"),
        ]
    )
    def looked_up(x, table=many):
        return {"y": x + tf.reduce_max(table)}

    signatures = {"serving_default": scaled, "joined": joined, "shifted": shifted, "large": looked_up}
    tf.saved_model.save(_module(**signatures), path, signatures=signatures)


def export_checkpoint(path: str) -> None:
    """What TensorFlow 1 leaves of a training: float32 `x` [?, 4] -> `y` = x * 3 in `model.ckpt-3`, and graph.pbtxt."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        factor = v1.get_variable("factor", initializer=3.0)
        tf.multiply(x, factor, name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, f"{path}/model.ckpt", global_step=3)
        v1.train.write_graph(graph, path, "graph.pbtxt")


def export_lambda_keras_files(path: str) -> None:
    """`net.keras` and `net.h5` with a Lambda layer: float32 [?, 4] -> x * 3."""
    import tensorflow as tf

    Path(path).mkdir()

    layers = [tf.keras.Input((4,), name="x"), tf.keras.layers.Lambda(lambda x: x * 3)]
    for name in ("net.keras", "net.h5"):
        tf.keras.Sequential(layers).save(f"{path}/{name}")


KINDS = {
    name.removeprefix("export_"): function
    for name, function in list(globals().items())
    if name.startswith("export_")
}
