"""Small SavedModels, made on the fly: each `export_<kind>(path)` writes one.

TensorFlow is imported inside the functions only. A process that forks, or that wants its TensorFlow as a broker has
it, exports in another one: `python -m tests.models.saved_models KIND PATH [KIND PATH ...]`, or
`export(kinds)` from Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.models import exporting
from tests.arrays import FIXED_SIZE
from tests.models import model_files, saved_corners, stateful_models
from tests.models.saved_rows import (  # noqa: F401  (among KINDS)
    export_late_rows,
    export_ranking,
    export_rows,
)
from tests.models.saved_types import (  # noqa: F401  (among KINDS)
    export_classic_composite,
    export_composite,
    export_narrow,
    export_only_variants,
    export_text,
    export_variants,
)

ROOT = Path(__file__).parents[2]


def export_loop(path: str) -> None:
    """`x` [?, 4] -> `y` twice that; a loop of the graph that has no end where the first element is 668."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def serve(x):
        goes_on = tf.logical_and(tf.size(x) > 0, tf.equal(tf.reduce_max(x), 668.0))
        rounds = tf.while_loop(
            lambda i: tf.logical_or(i < 1, goes_on), lambda i: (i + 1,), (tf.constant(0, tf.int64),)
        )[0]
        return {"y": x * 2 + 0 * tf.cast(rounds, tf.float32)}

    module.serve = serve
    tf.saved_model.save(module, path, signatures=serve)


def export_identity(path: str) -> None:
    """One signature a dtype, named like it: `x` [?, 3] -> `y` the same, through an Identity op."""
    import tensorflow as tf

    def identity_of(dtype):
        @tf.function(input_signature=[tf.TensorSpec([None, 3], dtype, name="x")])
        def serve(x):
            return {"y": tf.identity(x)}

        return serve

    module = tf.Module()
    module.functions = {name: identity_of(tf.dtypes.as_dtype(name)) for name in FIXED_SIZE}
    tf.saved_model.save(module, path, signatures=dict(module.functions))


def export_failing(path: str) -> None:
    """Signatures that raise: `serving_default` gathers int64 `i` from 3 values, `positive` asserts that `x` >= 0."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="i")])
    def gather(i):
        return {"y": tf.gather(tf.constant([10.0, 20.0, 30.0]), i)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def positive(x):
        tf.debugging.assert_non_negative(x, message="x must not be negative")
        return {"y": x * 2}

    module.gather, module.positive = gather, positive
    tf.saved_model.save(module, path, signatures={"serving_default": gather, "positive": positive})


def export_shapes(path: str) -> None:
    """Signatures of every form: scalars, several inputs and outputs, unknown rank, no inputs, fixed rows."""
    import tensorflow as tf

    spec = tf.TensorSpec
    module = tf.Module()

    @tf.function(input_signature=[spec([], tf.float32, name="a"), spec([], tf.float32, name="b")])
    def scalars(a, b):
        return {"sum": a + b, "difference": a - b}

    @tf.function(
        input_signature=[
            spec([None, 2], tf.float32, name="zeta"),
            spec([None], tf.int32, name="alpha"),
            spec([None, 2, 2], tf.float64, name="mid"),
        ]
    )
    def several(zeta, alpha, mid):
        return {"third": tf.reduce_sum(mid, [1, 2]), "first": zeta + 1, "second": alpha * 2}

    @tf.function(input_signature=[spec(None, tf.float32, name="x")])
    def any_rank(x):
        return {"y": x * 2}

    @tf.function(input_signature=[])
    def constant():
        return {"y": tf.constant([1.0, 2.0])}

    @tf.function(input_signature=[spec([2, 3], tf.float32, name="x")])
    def fixed(x):
        return {"y": tf.reduce_sum(x, 1)}

    @tf.function(input_signature=[spec([None, None], tf.float32, name="x")])
    def nonzero(x):
        return {"y": tf.boolean_mask(x, x[:, 0] > 0)}

    functions = {
        "scalars": scalars,
        "several": several,
        "any_rank": any_rank,
        "constant": constant,
        "fixed": fixed,
        "nonzero": nonzero,
    }
    module.functions = dict(functions)
    tf.saved_model.save(module, path, signatures=functions)


def export_no_signature(path: str) -> None:
    """A model that was exported without signatures."""
    import tensorflow as tf

    module = tf.Module()
    module.v = tf.Variable(1.0)
    tf.saved_model.save(module, path)


def export_classic(path: str) -> None:
    """A TF1 SavedModel: variables, a main op, an int64 -> int64 table, and a table filled from an asset file.

    `serving_default`: float32 [?, 2] `x` -> x @ [[1], [10]] + 100. `lookup`: int64 [?] `key` -> 1 -> 11, 2 -> 22,
    else -1. `asset`: int64 [?] `line` -> the number in that line of the asset (7, 8, 9), else -1.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    asset = Path(f"{path}.numbers.txt")
    asset.write_text("7\n8\n9\n")
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        w = v1.get_variable("w", initializer=[[1.0], [10.0]], use_resource=False)
        b = v1.get_variable("b", initializer=[100.0], use_resource=True)
        y = tf.add(tf.matmul(x, w), b, name="y")

        key = v1.placeholder(tf.int64, [None], name="key")
        pairs = tf.lookup.KeyValueTensorInitializer(
            tf.constant([1, 2], tf.int64), tf.constant([11, 22], tf.int64)
        )
        value = tf.lookup.StaticHashTable(pairs, -1).lookup(key)

        line = v1.placeholder(tf.int64, [None], name="line")
        file = tf.constant(str(asset))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, file)
        whole = tf.lookup.TextFileIndex
        lines = tf.lookup.TextFileInitializer(
            file, tf.int64, whole.LINE_NUMBER, tf.int64, whole.WHOLE_LINE, delimiter=" "
        )
        number = tf.lookup.StaticHashTable(lines, -1).lookup(line)

        session.run(v1.global_variables_initializer())
        _save_classic(
            session,
            path,
            {
                "serving_default": ({"x": x}, {"y": y}),
                "lookup": ({"key": key}, {"value": value}),
                "asset": ({"line": line}, {"number": number}),
            },
            main_op=v1.tables_initializer(),
        )
    asset.unlink()


def export_aliases(path: str) -> None:
    """Signatures whose names share tensors of the graph, as only TF1 can write them.

    `passthrough`: `x` [?, 2] -> `same` is x itself, `double`. `only_passthrough`: `x` -> `same`. `twins`: `a` and `b`
    are one tensor -> `double`. `twice`: `x` -> `one` and `two` are one tensor. `missing`: an output the graph lacks.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        double = tf.multiply(x, 2.0, name="double")
        signatures = {
            "passthrough": ({"x": x}, {"same": x, "double": double}),
            "only_passthrough": ({"x": x}, {"same": x}),
            "twins": ({"a": x, "b": x}, {"double": double}),
            "twice": ({"x": x}, {"one": double, "two": double}),
        }
        _save_classic(session, path, signatures, tags=("serve", "special"), break_one=True)


def _save_classic(session, path, signatures, main_op=None, tags=("serve",), break_one=False) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    info = v1.saved_model.build_tensor_info
    definitions = {
        name: v1.saved_model.build_signature_def(
            {key: info(tensor) for key, tensor in inputs.items()},
            {key: info(tensor) for key, tensor in outputs.items()},
            "tests/predict",
        )
        for name, (inputs, outputs) in signatures.items()
    }
    if break_one:
        broken = type(next(iter(definitions.values())))()
        broken.CopyFrom(definitions["passthrough"])
        broken.outputs["double"].name = "gone:0"
        definitions["missing"] = broken
    builder = v1.saved_model.Builder(path)
    builder.add_meta_graph_and_variables(
        session,
        list(tags),
        signature_def_map=definitions,
        assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        main_op=main_op,
    )
    builder.save()


KINDS: Mapping[str, Callable[[str], None]] = {
    name.removeprefix("export_"): function
    for name, function in list(globals().items())
    if name.startswith("export_")
} | {**exporting.KINDS, **saved_corners.KINDS, **model_files.KINDS}
"""Those of `stateful_models` are exported by name only: Keras takes its time."""


export = partial(exporting.export, module="tests.models.saved_models")
"""Of any of these kinds."""


if __name__ == "__main__":
    exporting.main(sys.argv[1:], {**KINDS, **stateful_models.KINDS})
