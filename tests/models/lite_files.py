"""LiteRT files as the converter makes them, written by: `python -m tests.models.lite_files FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

KINDS = (
    "float",
    "whole",
    "int8",
    "uint8",
    "fixed",
    "two",
    "dependent",
    "text",
    "counter",
    "random",
    "lstm",
    "table",
    "masked",
    "branch",
    "sliced",
    "flex",
    "custom",
)


def write(folder: Path) -> None:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    for kind in KINDS:
        content = globals()[f"_{kind}"](tf)
        (folder / f"{kind}.tflite").write_bytes(content)


def _net(tf: Any) -> Any:
    dense = tf.keras.layers.Dense
    return tf.keras.Sequential([tf.keras.Input((8,), name="x"), dense(16, "relu"), dense(3, "softmax")])


def _float(tf: Any) -> Any:
    return tf.lite.TFLiteConverter.from_keras_model(_net(tf)).convert()


def _whole(tf: Any) -> Any:
    """Without signatures, as older converters wrote it."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(_float(tf), 0))
    model.signatureDefs = None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _quantised(tf: Any, dtype: Any) -> Any:
    converter = tf.lite.TFLiteConverter.from_keras_model(_net(tf))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    rng = np.random.default_rng(1)
    converter.representative_dataset = lambda: ([rng.standard_normal((1, 8)).astype("f4")] for _ in range(20))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = dtype
    return converter.convert()


def _int8(tf: Any) -> Any:
    return _quantised(tf, tf.int8)


def _uint8(tf: Any) -> Any:
    return _quantised(tf, tf.uint8)


def _of_functions(tf: Any, module: Any, **functions: tuple[Any, list[Any]]) -> Any:
    import tempfile

    signatures = {
        name: tf.function(function, input_signature=specs).get_concrete_function()
        for name, (function, specs) in functions.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        if "flex" in functions:
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS,
                tf.lite.OpsSet.SELECT_TF_OPS,
            ]
        converter.allow_custom_ops = "custom" in functions
        converter.experimental_enable_resource_variables = True
        return converter.convert()


def _fixed(tf: Any) -> Any:
    x = tf.TensorSpec([2, 4], tf.float32, name="x")
    return _of_functions(
        tf, tf.Module(), serving_default=(lambda x: {"y": tf.sort(x), "n": tf.shape(x)}, [x])
    )


def _two(tf: Any) -> Any:
    x = tf.TensorSpec([None, 3], tf.float32, name="x")
    n = tf.TensorSpec([None], tf.int64, name="n")
    return _of_functions(
        tf,
        tf.Module(),
        sums=(lambda x: {"total": tf.reduce_sum(x, 1), "x": x}, [x]),
        twice=(lambda n: {"n": n * 2}, [n]),
    )


def _dependent(tf: Any) -> Any:
    x = tf.TensorSpec([None, 3], tf.float32, name="x")
    return _of_functions(tf, tf.Module(), serving_default=(lambda x: {"y": x - tf.reduce_mean(x, 0)}, [x]))


def _text(tf: Any) -> Any:
    texts = tf.TensorSpec([None], tf.string, name="s")
    return _of_functions(tf, tf.Module(), serving_default=(lambda s: {"t": tf.reshape(s, [-1, 1])}, [texts]))


def _counter(tf: Any) -> Any:
    module = tf.Module()
    module.total = tf.Variable([0.0, 0.0])
    x = tf.TensorSpec([2], tf.float32, name="x")
    return _of_functions(
        tf,
        module,
        add=(lambda x: {"total": module.total.assign_add(x)}, [x]),
        get=(lambda x: {"total": x + module.total}, [x]),
        plain=(lambda x: {"y": -x}, [x]),
    )


def _random(tf: Any) -> Any:
    x = tf.TensorSpec([None], tf.float32, name="x")
    return _of_functions(
        tf, tf.Module(), serving_default=(lambda x: {"y": x + tf.random.uniform(tf.shape(x))}, [x])
    )


def _lstm(tf: Any) -> Any:
    net = tf.keras.Sequential([tf.keras.Input(batch_shape=(1, 5, 3), name="x"), tf.keras.layers.LSTM(4)])
    return tf.lite.TFLiteConverter.from_keras_model(net).convert()


def _table(tf: Any) -> Any:
    x = tf.TensorSpec([None, None], tf.float32, name="x")
    return _of_functions(
        tf,
        tf.Module(),
        serving_default=(lambda x: {"best": tf.reduce_max(x, 1), "spread": tf.math.reduce_std(x)}, [x]),
    )


def _masked(tf: Any) -> Any:
    """What it computes of the values above 0, of which there may be none."""
    x = tf.TensorSpec([None], tf.float32, name="x")
    return _of_functions(
        tf,
        tf.Module(),
        serving_default=(lambda x: {"y": tf.reduce_max(tf.boolean_mask(x, x > 0.0)) * 2.0}, [x]),
    )


def _branch(tf: Any) -> Any:
    """The same in a subgraph."""
    x = tf.TensorSpec([None], tf.float32, name="x")

    def branch(x: Any) -> Any:
        largest = lambda: tf.reduce_max(tf.boolean_mask(x, x > 0.0))  # noqa: E731
        return {"y": tf.cond(x[0] < 9.0, largest, lambda: tf.reduce_min(x)) * 2.0}

    return _of_functions(tf, tf.Module(), serving_default=(branch, [x]))


def _sliced(tf: Any) -> Any:
    """The same of the first `n` values."""
    x, n = tf.TensorSpec([None], tf.float32, name="x"), tf.TensorSpec([], tf.int32, name="n")
    return _of_functions(
        tf, tf.Module(), serving_default=(lambda x, n: {"y": tf.reduce_max(x[:n]) * 2.0}, [x, n])
    )


def _flex(tf: Any) -> Any:
    x = tf.TensorSpec([2, 2], tf.float32, name="x")
    return _of_functions(tf, tf.Module(), flex=(lambda x: {"y": tf.linalg.inv(x)}, [x]))


def _custom(tf: Any) -> Any:
    x = tf.TensorSpec([2, 2], tf.float32, name="x")
    return _of_functions(tf, tf.Module(), custom=(lambda x: {"y": tf.linalg.inv(x)}, [x]))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
