"""SavedModels of every tensor type but plain numbers, as those of saved_models.py, which exports them as well."""

from __future__ import annotations

from typing import Any

QUANTISED = ("qint8", "quint8", "qint16", "quint16", "qint32")
WORDS = ("apple", "pear", "größer", "")
DAYS = (3, 5, 8, 13)


def export_text(path: str) -> None:
    """Strings: a table of them, strings out, both of every rank, serialised examples, a ragged answer."""
    import tensorflow as tf

    spec = tf.TensorSpec
    module = tf.Module()
    pairs = tf.lookup.KeyValueTensorInitializer(tf.constant(WORDS), tf.constant(DAYS, tf.int64))
    module.table = table = tf.lookup.StaticHashTable(pairs, -1)

    @tf.function(input_signature=[spec([None], tf.string, name="text")])
    def lookup(text):
        return {"days": table.lookup(text), "length": tf.strings.length(text)}

    @tf.function(input_signature=[spec([None], tf.int64, name="n")])
    def spell(n):
        """Outputs whose size is only known after the run: n times 'ab', and n as decimals."""
        long = tf.map_fn(lambda one: tf.strings.reduce_join(tf.repeat("ab", one)), n, tf.string)
        return {"long": long, "decimal": tf.strings.as_string(n)}

    @tf.function(input_signature=[spec(None, tf.string, name="x")])
    def upper(x):
        return {"y": tf.strings.upper(x)}

    @tf.function(input_signature=[spec([None], tf.string, name="examples")])
    def parse(examples):
        features = {
            "x": tf.io.FixedLenFeature([2], tf.float32),
            "tag": tf.io.FixedLenFeature([], tf.string, "none"),
        }
        parsed = tf.io.parse_example(examples, features)
        return {"sum": tf.reduce_sum(parsed["x"], 1), "tag": parsed["tag"]}

    @tf.function(input_signature=[spec([None], tf.string, name="text")])
    def split(text):
        return {"words": tf.strings.split(text), "count": tf.strings.split(text).row_lengths()}

    @tf.function(input_signature=[spec([], tf.string, name="a"), spec([], tf.string, name="b")])
    def join(a, b):
        return {"joined": tf.strings.join([a, b], "+")}

    functions = {
        "serving_default": lookup,
        "spell": spell,
        "upper": upper,
        "parse": parse,
        "split": split,
        "join": join,
    }
    _save(module, path, functions)


def export_composite(path: str) -> None:
    """Ragged and sparse tensors in and out, as TensorFlow 2 exports them; unknown dimensions."""
    import tensorflow as tf

    spec = tf.TensorSpec

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.float32)])
    def ragged_sum(r):
        return {"sum": tf.reduce_sum(r, 1)}

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.float32)])
    def ragged_weigh(r):
        """As many rows as there are flat values, and none of them right if another request's are among them."""
        return {"flat": r.flat_values * tf.cast(r.nrows(), tf.float32)}

    @tf.function(
        input_signature=[
            spec([None], tf.float32, name="scale"),
            tf.RaggedTensorSpec([None, None, None], tf.int64),
        ]
    )
    def ragged_deep(scale, r):
        return {"r": r * 2, "scale": scale * 2}

    @tf.function(input_signature=[tf.SparseTensorSpec([None, 4], tf.float32)])
    def densify(s):
        return {"dense": tf.sparse.to_dense(s), "twice": tf.sparse.map_values(tf.add, s, s)}

    @tf.function(input_signature=[spec([None, 4], tf.float32, name="x")])
    def sparsify(x):
        return {"s": tf.sparse.from_dense(x)}

    @tf.function(input_signature=[spec([None, None, 2], tf.float32, name="x")])
    def unknown_dimensions(x):
        return {"sum": tf.reduce_sum(x, [1, 2]), "rest": x[:, 1:], "shape": tf.shape(x)[None]}

    functions = {
        "ragged_sum": ragged_sum,
        "ragged_weigh": ragged_weigh,
        "ragged_deep": ragged_deep,
        "densify": densify,
        "sparsify": sparsify,
        "unknown_dimensions": unknown_dimensions,
    }
    _save(tf.Module(), path, functions)


def export_narrow(path: str) -> None:
    """Numbers that are less than common: half and bfloat16 arithmetic, quantised integers."""
    import tensorflow as tf

    spec = tf.TensorSpec

    def layer_of(dtype):
        @tf.function(input_signature=[spec([None, 8], dtype, name="x")])
        def layer(x):
            w = tf.cast(tf.reshape(tf.linspace(-1.0, 1.0, 64), [8, 8]), dtype)
            return {"y": tf.nn.relu(tf.matmul(x, w)), "mean": tf.reduce_mean(x, 1)}

        return layer

    def identity_of(dtype):
        @tf.function(input_signature=[spec([None, 3], dtype, name="x")])
        def identity(x):
            return {"y": tf.identity(x)}

        return identity

    @tf.function(input_signature=[spec([None, 4], tf.float32, name="x")])
    def quantise(x):
        q, low, high = tf.quantization.quantize(x, -1.0, 1.0, tf.qint8)
        return {"q": q, "range": tf.stack([low, high])}

    @tf.function(input_signature=[spec([None, 4], tf.qint8, name="q")])
    def dequantise(q):
        return {"x": tf.quantization.dequantize(q, -1.0, 1.0)}

    functions = {"half": layer_of(tf.half), "bfloat16": layer_of(tf.bfloat16)}
    functions |= {name: identity_of(tf.dtypes.as_dtype(name)) for name in QUANTISED}
    _save(tf.Module(), path, {**functions, "quantise": quantise, "dequantise": dequantise})


def export_classic_composite(path: str) -> None:
    """Sparse and ragged tensors on both sides of signatures, as only TensorFlow 1 names them."""
    import tensorflow as tf

    v1 = tf.compat.v1
    info = v1.saved_model.build_tensor_info
    with tf.Graph().as_default(), v1.Session() as session:
        sparse = v1.sparse_placeholder(tf.float32, [None, 4], name="sparse")
        flat = v1.placeholder(tf.string, [None], name="flat")
        splits = v1.placeholder(tf.int64, [None], name="splits")
        ragged = tf.RaggedTensor.from_row_splits(flat, splits, validate=False)
        shouted = tf.ragged.map_flat_values(tf.strings.upper, ragged)
        signatures = {
            "serving_default": ({"a": sparse}, {"dense": tf.sparse.to_dense(sparse)}),
            "ragged": ({"words": ragged}, {"shouted": shouted, "count": ragged.row_lengths()}),
        }
        definitions = {
            name: v1.saved_model.build_signature_def(
                {key: info(tensor) for key, tensor in inputs.items()},
                {key: info(tensor) for key, tensor in outputs.items()},
                "tests/predict",
            )
            for name, (inputs, outputs) in signatures.items()
        }
        builder = v1.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=definitions)
        builder.save()


def export_variants(path: str) -> None:
    """`serving_default` doubles a number; `handles` returns variants, which nothing but TensorFlow can hold."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(x):
        return {"y": x * 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def handles(x):
        return {"list": tf.raw_ops.TensorListFromTensor(tensor=x, element_shape=tf.constant([], tf.int32))}

    _save(tf.Module(), path, {"serving_default": double, "handles": handles})


def export_only_variants(path: str) -> None:
    """A model that cannot be served: its one signature returns variants."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def handles(x):
        return {"list": tf.raw_ops.TensorListFromTensor(tensor=x, element_shape=tf.constant([], tf.int32))}

    _save(tf.Module(), path, {"serving_default": handles})


def _save(module: Any, path: str, functions: dict[str, Any]) -> None:
    import tensorflow as tf

    module.functions = dict(functions)
    tf.saved_model.save(module, path, signatures=functions)
