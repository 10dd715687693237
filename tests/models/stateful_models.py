"""SavedModels whose signatures change something, and some that only seem to: more kinds for `saved_models.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RATE = 0.25
WEIGHTS = np.arange(6, dtype=np.float32).reshape(3, 2)
RECURRENT = np.array([[0.5, 0.1], [0.2, 0.9]], np.float32)


def _rows(name: str = "x") -> Any:
    import tensorflow as tf

    return tf.TensorSpec([None, 3], tf.float32, name=name)


def _save(path: str, module: Any, functions: dict[str, Any]) -> None:
    import tensorflow as tf

    module.functions = dict(functions)
    tf.saved_model.save(module, path, signatures=functions)


def export_stateful(path: str) -> None:  # noqa: C901 - one small function after the other
    """One signature for each way in which a TF2 model changes something; `serving_default`, x @ w, `get` and `mean`
    only read. What `write` and `checkpoint` write lies at `PATH.written`."""
    import tensorflow as tf

    module = tf.Module()
    module.w = w = tf.Variable(WEIGHTS, name="w")
    module.n = n = tf.Variable(0, name="n")
    module.average = average = tf.Variable(tf.zeros([3]), name="average")
    module.h = h = tf.Variable(tf.zeros([1, 2]), name="h")
    module.table = table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    module.generator = generator = tf.random.Generator.from_seed(5)
    file = f"{path}.written"
    given: dict[str, Any] = {}

    def serve(*spec: Any) -> Callable[[Callable[..., Any]], Any]:
        def add(function: Callable[..., Any]) -> Any:
            given[function.__name__] = made = tf.function(function, input_signature=list(spec))
            return made

        return add

    keys = tf.TensorSpec([None], tf.string, name="key")

    @serve(_rows())
    def serving_default(x):
        return {"y": x @ w}

    @serve(_rows(), tf.TensorSpec([None, 2], tf.float32, name="wanted"))
    def train(x, wanted):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(x @ w - wanted))
        w.assign_sub(RATE * tape.gradient(loss, w))
        return {"loss": tf.fill([tf.shape(x)[0]], loss)}

    @serve(_rows())
    def count(x):
        return {"n": tf.fill([tf.shape(x)[0]], n.assign_add(1))}

    @serve(keys)
    def get(key):
        return {"value": table.lookup(key)}

    @serve(keys, tf.TensorSpec([None], tf.int64, name="value"))
    def put(key, value):
        table.insert(key, value)
        return {"key": key}

    @serve(_rows())
    def normalise(x):
        return {"y": x - average.assign(0.9 * average + 0.1 * tf.reduce_mean(x, 0))}

    @serve(_rows())
    def mean(x):
        return {"y": x - average}

    @serve(tf.TensorSpec([1, 2], tf.float32, name="x"))
    def step(x):
        return {"h": tf.identity(h.assign(tf.tanh(x + h @ RECURRENT + 0.5)))}

    @serve(_rows())
    def write(x):
        tf.io.write_file(file, "written")
        return {"y": x}

    @serve(_rows())
    def checkpoint(x):
        tf.raw_ops.SaveV2(prefix=file, tensor_names=["w"], shape_and_slices=[""], tensors=[w.read_value()])
        return {"y": x}

    @serve(_rows())
    def drop(x):
        return {"y": tf.nn.dropout(x, 0.5)}

    @serve(_rows())
    def generate(x):
        return {"y": x + generator.uniform([3])}

    @tf.function
    def noted(x):
        n.assign_add(1)
        return x * 2

    @serve(_rows())
    def nested(x):
        return {"y": noted(noted(x))}

    @serve(_rows())
    def branch(x):
        return {"y": tf.cond(tf.reduce_sum(x) > 1e9, lambda: noted(x), lambda: x)}

    @serve(_rows())
    def loop(x):
        for _ in tf.range(3):
            x = noted(x)
        return {"y": x}

    @serve(_rows())
    def each_row(x):
        return {"y": tf.map_fn(noted, x)}

    @serve(_rows())
    def data_set(x):
        rows = tf.data.Dataset.from_tensor_slices(x).map(noted)
        return {"y": x + rows.reduce(0.0, lambda total, row: total + tf.reduce_sum(row))}

    @serve(_rows())
    def shuffled(x):
        rows = tf.data.Dataset.from_tensor_slices(x).shuffle(8)
        return {"y": x + rows.reduce(0.0, lambda total, row: total + tf.reduce_sum(row))}

    _save(path, module, given)


def export_counter(path: str) -> None:
    """A model whose default signature counts its runs: `x` [?, 3] -> `n`. Larger than what is light on disk."""
    import tensorflow as tf

    module = tf.Module()
    module.n = n = tf.Variable(0, name="n")
    module.ballast = tf.Variable(tf.zeros([600_000]))

    @tf.function(input_signature=[_rows()])
    def serving_default(x):
        return {"n": tf.fill([tf.shape(x)[0]], n.assign_add(1))}

    _save(path, module, {"serving_default": serving_default})


def export_stateless(path: str) -> None:  # noqa: C901 - one small function after the other
    """Signatures with ops that are declared stateful and change nothing."""
    import tensorflow as tf

    module = tf.Module()
    module.w = w = tf.Variable(WEIGHTS, name="w")
    module.embedding = embedding = tf.Variable(tf.ones([10, 4]), name="embedding")
    pairs = tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64))
    module.table = table = tf.lookup.StaticHashTable(pairs, -1)
    given: dict[str, Any] = {}

    def serve(*spec: Any) -> Callable[[Callable[..., Any]], Any]:
        def add(function: Callable[..., Any]) -> Any:
            given[function.__name__] = made = tf.function(function, input_signature=list(spec))
            return made

        return add

    words = tf.TensorSpec([None], tf.string, name="words")

    @serve(_rows())
    def dense(x):
        return {"y": x @ w}

    @serve(tf.TensorSpec([None], tf.int32, name="i"))
    def lookup(i):
        return {"y": tf.nn.embedding_lookup(embedding, i % 10)}

    @serve(words)
    def static(words):
        return {"y": table.lookup(words)}

    @serve(words)
    def strings(words):
        parts = tf.strings.split(tf.strings.lower(words), " ")
        return {"y": table.lookup(tf.strings.reduce_join(parts.to_tensor(""), 1))}

    @serve(_rows())
    def stateless_random(x):
        return {"y": x + tf.random.stateless_normal([3], [1, 2])}

    @serve(_rows())
    def arrays(x):
        found = tf.TensorArray(tf.float32, 0, dynamic_size=True)
        for i in tf.range(3):
            found = found.write(i, x[:, i])
        return {"y": tf.transpose(found.stack())}

    @serve(_rows())
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in tf.range(3):
                y = tf.sin(y)
        return {"y": tape.gradient(y, x)}

    @serve(_rows())
    def checked(x):
        tf.debugging.assert_non_negative(tf.abs(x))
        return {"y": tf.debugging.check_numerics(x, "bad")}

    @serve(_rows())
    def printed(x):
        tf.print("a row came", summarize=1)
        return {"y": x}

    @serve(_rows())
    def branch(x):
        return {"y": tf.cond(tf.reduce_sum(x) > 0, lambda: x @ w @ tf.transpose(w), lambda: x)}

    @serve(_rows())
    def mapped(x):
        return {"y": tf.map_fn(lambda row: tf.linalg.matvec(w, row, transpose_a=True), x)}

    @serve(_rows())
    def data_set(x):
        total = 0.0
        for row in tf.data.Dataset.from_tensor_slices(x).batch(2):
            total += tf.reduce_sum(row)
        return {"y": x + total}

    _save(path, module, given)


def export_classic_stateful(path: str) -> None:
    """A TF1 SavedModel with reference variables, a queue, random numbers, and conditionals on `training`, which is
    false unless it is fed."""
    import tensorflow as tf

    from tests.models.saved_models import _save_classic

    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        training = v1.placeholder_with_default(False, [], name="training")
        n = v1.get_variable("n", initializer=0, use_resource=False)
        table = v1.get_variable("table", initializer=tf.zeros([4, 2]), use_resource=False)
        queue = tf.queue.FIFOQueue(100, [tf.float32], name="queue")
        rows = tf.shape(x)[0]
        counted = tf.fill(rows[None], v1.assign_add(n, 1), name="counted")
        with tf.control_dependencies([v1.scatter_add(table, [1], [[1.0, 1.0]]).op]):
            scattered = tf.identity(x, name="scattered")
        with tf.control_dependencies([queue.enqueue([tf.reduce_sum(x)])]):
            queued = tf.identity(x, name="queued")
        noise = v1.random_uniform([3], name="noise")
        dropped = v1.cond(training, lambda: x * v1.random_uniform([3]), lambda: x * 2, name="dropped")
        moved = v1.cond(training, lambda: tf.cast(v1.assign_add(n, 1), tf.float32) * x, lambda: x * 3)
        v1.assign(n, 7, name="reset")
        outputs = {
            "serving_default": {"n": tf.fill(rows[None], tf.identity(n), name="read")},
            "count": {"n": counted},
            "scatter": {"y": scattered},
            "enqueue": {"y": queued},
            "noise": {"y": tf.add(x, noise, name="noisy")},
            "infer": {"y": tf.add(dropped, moved, name="inferred")},
        }
        signatures: dict[str, Any] = {name: ({"x": x}, outs) for name, outs in outputs.items()}
        signatures["fit"] = {"x": x, "training": training}, outputs["infer"]
        session.run(v1.global_variables_initializer())
        _save_classic(session, path, signatures)


def export_classic_reader(path: str) -> None:
    """A TF1 SavedModel that has nodes which read files and call Python, of which its signature reaches none."""
    import tensorflow as tf

    from tests.models.saved_models import _save_classic

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        tf.io.read_file(tf.constant("nowhere", name="name"), name="read")
        lines = tf.data.TextLineDataset(v1.placeholder_with_default("nowhere", [], name="lines_of"))
        tf.identity(lines.reduce(tf.constant(b""), lambda before, line: before + line), name="lines")
        tf.identity(v1.py_func(lambda value: value, [x], tf.float32), name="called")
        outputs = {"y": tf.multiply(x, 2.0, name="doubled")}
        v1.get_variable("n", initializer=0)
        session.run(v1.global_variables_initializer())
        _save_classic(session, path, {"serving_default": ({"x": x}, outputs)})


def export_keras_stateful(path: str) -> None:
    """Keras layers as they are called to train, and an RNN that goes on where the call before ended."""
    import tensorflow as tf

    keras = tf.keras
    layers = keras.layers
    dropping = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dropout(0.5)])
    normalising = keras.Sequential([keras.Input((3,)), layers.BatchNormalization()])
    going_on = keras.Sequential([keras.Input((4, 3), batch_size=2), layers.GRU(2, stateful=True)])
    metric = keras.metrics.Mean()
    metric.update_state([0.0])
    module = tf.Module()
    module.kept = [dropping, normalising, going_on, metric.variables]
    module.variables_of = [each.variables for each in (dropping, normalising, going_on)]

    def made(call: Callable[[Any], Any], spec: Any) -> Any:
        return tf.function(lambda x: {"y": call(x)}, input_signature=[spec])

    def measured(x: Any) -> Any:
        metric.update_state(tf.reduce_mean(x))
        return x * metric.result()

    sequences = tf.TensorSpec([2, 4, 3], tf.float32, name="x")
    functions = {
        "dropping": made(lambda x: dropping(x, training=True), _rows()),
        "normalising": made(lambda x: normalising(x, training=True), _rows()),
        "going_on": made(going_on, sequences),
        "measured": made(measured, _rows()),
        "not_dropping": made(lambda x: dropping(x, training=False), _rows()),
        "not_normalising": made(lambda x: normalising(x, training=False), _rows()),
    }
    _save(path, module, functions)


def export_keras_stateless(path: str) -> None:
    """What Keras exports of a text classifier with LSTM and GRU, dropout and normalisation."""
    import tensorflow as tf

    keras = tf.keras
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="words"),
            layers.Embedding(50, 8, mask_zero=True),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.GRU(4),
            layers.Dropout(0.5),
            layers.BatchNormalization(),
            layers.Dense(3, "softmax"),
        ]
    )
    net.export(path, verbose=False)


def export_mobilenet(path: str) -> None:
    """A small MobileNetV2 without training."""
    import tensorflow as tf

    net = tf.keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=5)
    net.export(path, verbose=False)


KINDS = {
    name.removeprefix("export_"): function
    for name, function in list(globals().items())
    if name.startswith("export_")
}


def written(path: Path) -> list[Path]:
    """What signatures of `stateful` at this path have written."""
    return sorted(path.parent.glob(f"{path.name}.written*"))
