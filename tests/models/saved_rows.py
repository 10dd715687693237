"""A SavedModel with a signature for each way in which rows depend on each other, or do not.

`independent_...` may be joined and split, `dependent_...` may not.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def _weights(*shape: int) -> Any:
    import tensorflow as tf

    scale = 1 / np.sqrt(shape[0])
    return tf.Variable(np.random.default_rng(sum(shape)).normal(scale=scale, size=shape).astype(np.float32))


def export_rows(path: str) -> None:
    """Real kinds of models in small: see the functions below."""
    import tensorflow as tf

    module = tf.Module()
    module.made = [_independent(), _dependent()]
    functions = {
        f"{kind}_{name}": made
        for kind, (_, functions) in zip(("independent", "dependent"), module.made)
        for name, made in functions.items()
    }
    module.functions = dict(functions)
    tf.saved_model.save(module, path, signatures=functions)


MAGIC = 12345.0


def export_ranking(path: str) -> None:
    """float32 [?, 8] `x` -> `y` [?]: `serving_default` the probability of each row of one list, `score` of each row."""
    import tensorflow as tf

    module = tf.Module()
    module.w = _weights(8, 1)
    spec = tf.TensorSpec([None, 8], tf.float32, name="x")

    @tf.function(input_signature=[spec])
    def probability(x):
        return {"y": tf.nn.softmax(tf.squeeze(tf.matmul(x, module.w), 1), axis=0)}

    @tf.function(input_signature=[spec])
    def score(x):
        return {"y": tf.squeeze(tf.matmul(x, module.w), 1)}

    module.functions = [probability, score]
    tf.saved_model.save(module, path, signatures={"serving_default": probability, "score": score})


def export_late_rows(path: str) -> None:
    """float32 [?, 4] `x` -> `y`: x * 2, but the sum of all rows wherever one of them begins with MAGIC, which nobody
    makes up. `filtered`: the rows of `x`, without those that begin with MAGIC."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def doubled(x):
        found = tf.reduce_any(x[:, 0] == MAGIC)
        return {"y": tf.where(found, tf.zeros_like(x) + tf.reduce_sum(x), 2 * x)}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def filtered(x):
        return {"y": tf.boolean_mask(x, x[:, 0] != MAGIC)}

    module.doubled, module.filtered = doubled, filtered
    tf.saved_model.save(module, path, signatures={"serving_default": doubled, "filtered": filtered})


def _signed(tf: Any, functions: dict[str, Any], **inputs: tuple[list[int | None], Any]) -> Any:
    specs = [tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()]

    def keep(function: Any) -> Any:
        functions[function.__name__] = tf.function(function, input_signature=specs)
        return function

    return keep


def _independent() -> tuple[Any, dict[str, Any]]:  # noqa: C901 - a function for each kind
    import tensorflow as tf

    functions: dict[str, Any] = {}
    w, kernel, table = _weights(16, 8), _weights(3, 3, 3, 4), _weights(1000, 12)
    first, later = _weights(64, 1, 4), _weights(12, 12)
    words = tf.Variable(np.random.default_rng(1).normal(size=(512, 32)).astype(np.float32))

    @_signed(tf, functions, x=([None, 16], tf.float32))
    def dense(x):
        return {"y": tf.nn.softmax(tf.nn.relu(tf.matmul(x, w)))}

    @_signed(tf, functions, image=([None, 32, 32, 3], tf.float32))
    def convolution(image):
        return {"y": tf.reduce_mean(tf.nn.relu6(tf.nn.conv2d(image, kernel, 2, "SAME")), [1, 2])}

    @_signed(tf, functions, image=([None, None, None, 3], tf.uint8))
    def any_size(image):
        resized = tf.image.resize(tf.cast(image, tf.float32) / 255.0, [16, 16])
        return {"y": tf.reduce_max(tf.nn.conv2d(resized, kernel, 1, "VALID"), [1, 2])}

    @_signed(tf, functions, audio=([None, 4410, 1], tf.float32))
    def audio_windows(audio):
        frames = tf.nn.conv1d(audio, first, 16, "SAME")
        return {"note": tf.sigmoid(frames), "level": tf.reduce_mean(tf.abs(frames), 1)}

    @_signed(tf, functions, ids=([None, None], tf.int32), mask=([None, None], tf.int32))
    def attention(ids, mask):
        vectors = tf.gather(table, ids)
        scores = tf.matmul(tf.matmul(vectors, later), vectors, transpose_b=True)
        scores += -1e9 * (1 - tf.cast(mask, tf.float32))[:, None, :]
        return {"y": tf.reduce_mean(tf.matmul(tf.nn.softmax(scores), vectors), 1)}

    @_signed(tf, functions, text=([None], tf.string))
    def text_encoder(text):
        tokens = tf.strings.split(tf.strings.lower(text))
        ids = tf.ragged.map_flat_values(tf.strings.to_hash_bucket_fast, tokens, 512)
        summed = tf.reduce_sum(tf.ragged.map_flat_values(tf.gather, words, ids), 1)
        return {"y": tf.math.l2_normalize(summed, 1)}

    @_signed(tf, functions, text=([None], tf.string))
    def text_to_text(text):
        return {"y": tf.strings.join([text, tf.strings.upper(text)], "/")}

    @_signed(tf, functions, text=([None], tf.string))
    def parsed_numbers(text):
        return {"y": tf.strings.to_number(text) * 2}

    @_signed(tf, functions, picture=([None], tf.string))
    def encoded_pictures(picture):
        def one(encoded):
            decoded = tf.io.decode_image(encoded, 3, expand_animations=False)
            return tf.image.resize(tf.ensure_shape(decoded, [None, None, 3]), [8, 8])

        return {"y": tf.map_fn(one, picture, fn_output_signature=tf.TensorSpec([8, 8, 3], tf.float32))}

    @_signed(tf, functions, x=([None, 6], tf.float64), flag=([None], tf.bool), n=([None], tf.int64))
    def mixed(x, flag, n):
        return {"y": tf.where(flag, tf.reduce_sum(x, 1), 0), "next": n + 1}

    @_signed(tf, functions, series=([None, None, 4], tf.float32))
    def recurrent(series):
        gate = w[:4, :4]
        state = tf.scan(
            lambda before, now: tf.tanh(tf.matmul(before + now, gate)),
            tf.transpose(series, [1, 0, 2]),
            tf.zeros_like(series[:, 0]),
        )
        return {"y": tf.transpose(state, [1, 0, 2])}

    @_signed(tf, functions, x=([None, 16], tf.float32))
    def classes(x):
        return {"label": tf.gather(["a", "b", "c", "d", "e", "f", "g", "h"], tf.argmax(tf.matmul(x, w), 1))}

    @_signed(tf, functions, x=([None, 16], tf.float16))
    def half(x):
        return {"y": tf.matmul(x, tf.cast(w, tf.float16))}

    return [w, kernel, table, first, later, words], functions


def _dependent() -> tuple[Any, dict[str, Any]]:  # noqa: C901 - a function for each kind
    import tensorflow as tf

    functions: dict[str, Any] = {}
    w, kernel, table = _weights(8, 5), _weights(3, 3, 4), _weights(1000, 8)
    score = _weights(8, 1)

    def rnn(steps):  # [time, features]
        gate = table[:8]
        return tf.scan(
            lambda before, now: tf.tanh(tf.linalg.matvec(gate, before) + now), steps, tf.zeros([8])
        )

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def ranking(x):
        return {"y": tf.nn.softmax(tf.squeeze(tf.matmul(x, score), 1), axis=0)}

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def sharp_ranking(x):
        return {"y": tf.nn.softmax(50 * tf.squeeze(tf.matmul(x, score), 1), axis=0)}

    @_signed(tf, functions, image=([None, 24, 3], tf.float32))
    def one_image(image):
        return {"y": tf.nn.conv2d(image[None], kernel[..., None][:, :, :3], 1, "SAME")[0]}

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def batch_normalisation(x):
        mean, variance = tf.nn.moments(x, [0])
        return {"y": tf.matmul(tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3), w)}

    @_signed(tf, functions, words=([None], tf.string))
    def tags_of_a_sentence(words):
        vectors = tf.gather(table, tf.strings.to_hash_bucket_fast(words, 1000))
        both = tf.concat([rnn(vectors), tf.reverse(rnn(tf.reverse(vectors, [0])), [0])], 1)
        return {"tag": tf.argmax(both, 1)}

    @_signed(tf, functions, steps=([None, 1, 8], tf.float32))
    def time_major(steps):
        return {"y": rnn(steps[:, 0])[:, None]}

    @_signed(tf, functions, points=([None, 3], tf.float32))
    def points_of_a_cloud(points):
        whole = tf.reduce_max(points, 0, keepdims=True)
        return {"y": tf.concat([points, tf.tile(whole, [tf.shape(points)[0], 1])], 1)}

    @_signed(tf, functions, nodes=([None, 8], tf.float32), edges=([None, 2], tf.int32))
    def graph_net(nodes, edges):
        sent = tf.gather(nodes, edges[:, 0])
        return {"y": nodes + tf.math.unsorted_segment_sum(sent, edges[:, 1], tf.shape(nodes)[0])}

    @_signed(tf, functions, x=([None], tf.float32))
    def running_sum(x):
        return {"y": tf.cumsum(x)}

    @_signed(tf, functions, text=([None], tf.string))
    def as_wide_as_the_longest(text):
        return {"y": tf.strings.split(text).to_tensor()}

    @_signed(tf, functions, n=([None], tf.int32))
    def sequence_mask(n):
        return {"y": tf.sequence_mask(tf.minimum(tf.abs(n), 50))}

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def a_little_of_the_largest(x):
        return {"y": x + 1e-6 * tf.reduce_max(x)}

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def numbered(x):
        return {"y": x, "row": tf.range(tf.shape(x)[0])}

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def counted(x):
        return {"y": x, "rows": tf.fill([tf.shape(x)[0]], tf.shape(x)[0])}

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def without_empty_rows(x):
        return {"y": tf.boolean_mask(x, tf.reduce_any(x != 0, 1))}

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def sorted_rows(x):
        return {"y": tf.sort(x, 0)}

    @_signed(tf, functions, x=([None], tf.int64))
    def each_once(x):
        return {"y": tf.unique(x).y}

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def best_of_axis_0(x):
        return {"y": tf.argmax(x, 0)}

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def ten_best(x):
        return {"y": tf.math.top_k(x[:, 0], 10).values}

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def header(x):
        return {"y": tf.concat([tf.zeros_like(x[:1]), x[1:]], 0)}

    @_signed(tf, functions, x=([None], tf.float32))
    def echo_of_a_signal(x):
        return {"y": x + 0.5 * tf.pad(x, [[100, 0]])[: tf.shape(x)[0]]}

    @_signed(tf, functions, boxes=([None, 4], tf.float32))
    def detection(boxes):
        return {"kept": tf.image.non_max_suppression(boxes, boxes[:, 0], 20)}

    @_signed(tf, functions, text=([None], tf.string))
    def only_long_texts(text):
        length = tf.cast(tf.strings.length(text), tf.float32)
        return {"y": length + tf.where(tf.reduce_max(length) > 1500, tf.reduce_sum(length), 0)}

    @_signed(tf, functions, ids=([None, None], tf.int64))
    def some_ids(ids):
        vectors = tf.gather(table, ids)
        special = tf.cast(ids > 500, tf.float32)[..., None]
        return {"y": tf.reduce_mean(vectors, 1) - 0.01 * tf.reduce_sum(vectors * special, [0, 1])}

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def coarse_numbers(x):
        return {"y": tf.quantization.fake_quant_with_min_max_vars(x, tf.reduce_min(x), tf.reduce_max(x))}

    @_signed(tf, functions, terms=([None], tf.int64), documents=([None, 8], tf.float32))
    def terms_and_documents(terms, documents):
        query = tf.reduce_mean(tf.gather(table, terms), 0)
        return {"y": tf.linalg.matvec(documents, query)}

    @_signed(tf, functions, x=([None, 8], tf.float32))
    def always_the_same(x):
        return {"y": tf.ones([tf.shape(x)[0]])}

    @_signed(tf, functions, text=([None], tf.string))
    def takes_nothing_made_up(text):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(text == "magic"), ["no"])]):
            return {"y": tf.strings.length(text)}

    return [w, kernel, table, score], functions
