"""Models of every kind that people have on disk, made for the tests: more kinds for `tests/models/saved_models.py`.

Each is written with what TensorFlow or Keras itself answers before the model is saved, in `PATH.answers.npz`: `in.NAME`
and `out.NAME`, where outputs are in the order of the signature's names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def inputs_of(path: Path) -> dict[str, np.ndarray]:
    return _side(path, "in.")


def answers_of(path: Path) -> dict[str, np.ndarray]:
    """What TensorFlow answered for `inputs_of(path)`."""
    return _side(path, "out.")


def _side(path: Path, prefix: str) -> dict[str, np.ndarray]:
    with np.load(f"{path}.answers.npz") as stored:
        return {key.removeprefix(prefix): stored[key] for key in stored.files if key.startswith(prefix)}


def _store(path: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    named = {f"in.{name}": np.asarray(value) for name, value in inputs.items()}
    np.savez(f"{path}.answers.npz", **named, **{f"out.{n}": np.asarray(v) for n, v in outputs.items()})


def _rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def keras_net() -> Any:
    """float32 `image` [?, 8, 8, 3] and `facts` [?, 4] -> two outputs: convolution, normalisation, dense layers."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(5)
    layers = tf.keras.layers
    image, facts = tf.keras.Input((8, 8, 3), name="image"), tf.keras.Input((4,), name="facts")
    pooled = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(layers.Conv2D(6, 3)(image)))
    joined = layers.Concatenate()([pooled, facts])
    return tf.keras.Model(
        [image, facts], [layers.Dense(3, activation="softmax")(joined), layers.Dense(1)(joined)]
    )


def export_keras_file(path: str) -> None:
    """`model.keras` in a folder of its own, with two inputs and two outputs."""
    net, image, facts = keras_net(), _rows(5, 8, 8, 3), _rows(5, 4)
    Path(path).mkdir()
    net.save(f"{path}/model.keras")
    first, second = net([image, facts], training=False)
    _store(path, {"image": image, "facts": facts}, {"output_0": first, "output_1": second})


def export_h5_file(path: str) -> None:
    """`model.h5`, a Sequential model with one input."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(6)
    layers = [tf.keras.layers.Dense(16, activation="relu"), tf.keras.layers.Dense(2)]
    net = tf.keras.Sequential([tf.keras.Input((4,), name="x"), *layers])
    x = _rows(5, 4)
    Path(path).mkdir()
    net.save(f"{path}/model.h5")
    _store(path, {"x": x}, {"output_0": net(x)})


def export_custom_keras_file(path: str) -> None:
    """`model.keras` with a layer of tests/models/keras_layer.py: float32 [?, 4] -> x * 3."""
    import tensorflow as tf

    from tests.models.keras_layer import Tripled

    Path(path).mkdir()
    tf.keras.Sequential([tf.keras.Input((4,), name="x"), Tripled()]).save(f"{path}/model.keras")


def export_keras_module(path: str) -> None:
    """A tf.Module that holds a Keras 3 model: the variables that its signature reads are saved under another name."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(7)
    module = tf.Module()
    module.net = net = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(3)])

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def serve(x):
        return {"y": net(x)}

    module.serve = serve
    tf.saved_model.save(module, path, signatures=serve)
    x = _rows(5, 4)
    _store(path, {"x": x}, {"y": net(x)})


def export_frozen(path: str) -> None:
    """`graph.pb`: a TF1 graph with a table and variables made constants, and no signature."""
    import tensorflow as tf

    v1 = tf.compat.v1
    Path(path).mkdir()
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], name="input")
        w = v1.get_variable("w", initializer=_rows(4, 3), use_resource=False)
        best = tf.argmax(tf.nn.softmax(tf.matmul(x, w)), axis=1)
        pairs = tf.lookup.KeyValueTensorInitializer(
            tf.range(3, dtype=tf.int64), tf.constant([7, 8, 9], tf.int64)
        )
        table = tf.lookup.StaticHashTable(pairs, -1)
        label = tf.identity(table.lookup(best), name="scope/label")
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        rows = _rows(5, 4)
        _store(path, {"x": rows}, {"label": session.run(label, {x: rows})})
        filler = [op.name for op in session.graph.get_operations() if op.type.startswith("LookupTableImport")]
        names = [label.op.name, *filler]
        frozen = v1.graph_util.convert_variables_to_constants(session, session.graph_def, names)
    Path(path, "graph.pb").write_bytes(frozen.SerializeToString())


def export_hub_module(path: str) -> None:
    """A module as TF1's TensorFlow Hub has them: no tags, a table that its user fills, a signature `default`."""
    import tensorflow as tf

    v1 = tf.compat.v1
    asset = Path(f"{path}.words.txt")
    asset.write_text("7\n8\n9\n")
    with tf.Graph().as_default(), v1.Session() as session:
        line = v1.placeholder(tf.int64, [None], name="line")
        w = v1.get_variable("w", initializer=tf.constant([10], tf.int64), use_resource=True)
        file = tf.constant(str(asset))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, file)
        whole = tf.lookup.TextFileIndex
        lines = tf.lookup.TextFileInitializer(
            file, tf.int64, whole.LINE_NUMBER, tf.int64, whole.WHOLE_LINE, delimiter=" "
        )
        number = w * tf.lookup.StaticHashTable(lines, -1).lookup(line)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        rows = np.array([2, 0, 5])
        _store(path, {"line": rows}, {"default": session.run(number, {line: rows})})
        builder = v1.saved_model.Builder(path)
        signature = v1.saved_model.predict_signature_def({"line": line}, {"default": number})
        builder.add_meta_graph_and_variables(
            session,
            [],
            {"default": signature},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        )
        builder.save()
    Path(path, "tfhub_module.pb").write_bytes(b"\x08\x03")  # a ModuleDef: format FORMAT_V3
    asset.unlink()


def export_unsaved_variable(path: str) -> None:
    """A TF1 SavedModel of two variables, of which one was not saved."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        saved = v1.get_variable("saved", initializer=2.0, use_resource=True)
        unsaved = v1.get_variable("unsaved", initializer=3.0, use_resource=True)
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(path)
        signature = v1.saved_model.predict_signature_def
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"good": signature({"x": x}, {"y": x * saved}), "bad": signature({"x": x}, {"y": x * unsaved})},
            saver=v1.train.Saver([saved]),
        )
        builder.save()


def export_untraced(path: str) -> None:
    """Functions in place of signatures: `plain`, traced for two shapes, and `scaled`, which takes a number, too."""
    import tensorflow as tf

    module = tf.Module()
    spec = tf.TensorSpec

    @tf.function
    def plain(x):
        return x * 2

    @tf.function
    def scaled(x, factor):
        return x * tf.cast(factor, tf.float32)

    module.plain, module.scaled = plain, scaled
    plain.get_concrete_function(spec([None, 2], tf.float32))
    plain.get_concrete_function(spec([], tf.float32))
    scaled.get_concrete_function(spec([None, 4], tf.float32), spec([], tf.int64))
    scaled.get_concrete_function(spec([None, 4], tf.float32), 3)
    tf.saved_model.save(module, path)


def export_picky(path: str) -> None:
    """Gathers float32 [3, 2] by int64 `i` [?], from 1 on: zeros are illegal. A signature `lengths` of tf.Examples, and
    warm-up requests for TensorFlow Serving, of which three can be used."""
    import tensorflow as tf

    spec = tf.TensorSpec
    module = tf.Module()
    rows = tf.constant([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])

    @tf.function(input_signature=[spec([None], tf.int64, name="i")])
    def gather(i):
        with tf.control_dependencies([tf.debugging.assert_positive(i, message="from 1 on")]):
            return {"y": tf.gather(rows, i - 1)}

    @tf.function(input_signature=[spec([None], tf.string, name="examples")])
    def lengths(examples):
        names = {"name": tf.io.FixedLenFeature([], tf.string), "of": tf.io.FixedLenFeature([], tf.string)}
        parsed = tf.io.parse_example(examples, names)
        return {"length": tf.strings.length(parsed["name"]) + tf.strings.length(parsed["of"])}

    module.gather, module.lengths = gather, lengths
    tf.saved_model.save(module, path, signatures={"serving_default": gather, "lengths": lengths})
    write_warmup_requests(
        Path(path),
        [
            predict_log("", {"i": np.array([2, 3])}),
            predict_log("serving_default", {"i": np.array([1])}),
            predict_log("serving_default", {"i": np.array([1.5])}),
            predict_log("gone", {"i": np.array([1])}),
            classify_log("lengths", ["one", "three"], context={"of": "abc"}),
        ],
    )


def write_warmup_requests(directory: Path, records: list[bytes]) -> None:
    import tensorflow as tf

    (directory / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(directory / "assets.extra" / "tf_serving_warmup_requests")) as file:
        for record in records:
            file.write(record)


def predict_log(signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """A PredictionLog with a PredictRequest, byte for byte as tensorflow-serving-api writes it."""
    import tensorflow as tf

    entries = [
        _field(2, _field(1, name.encode()) + _field(2, tf.make_tensor_proto(array).SerializeToString()))
        for name, array in inputs.items()
    ]
    return _field(6, _field(1, _model(signature) + b"".join(entries)))


def classify_log(signature: str, names: list[str], context: Mapping[str, str]) -> bytes:
    """A PredictionLog with a ClassificationRequest: a tf.Example for each name, and one that they share."""
    examples = b"".join(_field(1, _example({"name": name})) for name in names)
    return _field(
        2, _field(1, _model(signature) + _field(2, _field(2, examples + _field(2, _example(context)))))
    )


def _model(signature: str) -> bytes:
    return _field(1, _field(1, b"picky") + (_field(3, signature.encode()) if signature else b""))


def _example(features: Mapping[str, str]) -> bytes:
    import tensorflow as tf

    made = tf.train.Example()
    for name, value in features.items():
        made.features.feature[name].bytes_list.value.append(value.encode())
    return bytes(made.SerializeToString())


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes in a protocol buffer."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


KINDS = {
    name.removeprefix("export_"): function
    for name, function in list(globals().items())
    if name.startswith("export_")
}
