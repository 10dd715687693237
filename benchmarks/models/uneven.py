"""SavedModels that are light on what warm-up makes up, and heavy on what people send.

Exported by exporting.py, as `mlp` is.

jpegs           an empty string is not an image
convolutional   one pixel is soon computed
unexported      what a signature computes is nothing beside other tensors of its graph
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIDE = 2000
"""Of the square image `PATH.jpg` beside `jpegs`, which takes tens of milliseconds to decode."""
CHANNELS = 32


def export_jpegs(path: str) -> None:
    """string [?] -> the mean of each image, float32 [?]; with an image of noise beside it."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image")])
    def serve(image):
        def mean(one):
            return tf.reduce_mean(tf.cast(tf.io.decode_jpeg(one, channels=3), tf.float32))

        return {"mean": tf.map_fn(mean, image, fn_output_signature=tf.float32)}

    module.serve = serve
    tf.saved_model.save(module, path, signatures=serve)
    noise = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Path(f"{path}.jpg").write_bytes(tf.io.encode_jpeg(noise).numpy())


def export_convolutional(path: str) -> None:
    """Images of any height and width -> float32 [?, 32]: three convolutions and a mean."""
    import tensorflow as tf

    rng = np.random.default_rng(5)
    module = tf.Module()
    module.filters = filters = [
        tf.Variable(rng.normal(scale=0.1, size=(3, 3, channels, CHANNELS)).astype(np.float32))
        for channels in (3, CHANNELS, CHANNELS)
    ]

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="x")])
    def serve(x):
        for each in filters:
            x = tf.nn.relu(tf.nn.conv2d(x, each, 1, "SAME"))
        return {"y": tf.reduce_mean(x, [1, 2])}

    module.serve = serve
    tf.saved_model.save(module, path, signatures=serve)


def export_unexported(path: str) -> None:
    """x [?, 4] -> y twice that; and in the graph `costly:0`, products of large matrices."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        y = tf.multiply(x, 2.0, name="y")
        product = tf.fill([800, 800], tf.reduce_mean(x) / 800)
        for _ in range(5):
            product = tf.matmul(product, product)
        tf.reduce_mean(product, name="costly")
        v1.saved_model.simple_save(session, path, {"x": x}, {"y": y})
