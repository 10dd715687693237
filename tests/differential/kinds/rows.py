"""Kinds whose rows are independent: numbers in, numbers out."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.differential.draw import Draw
from tests.differential.kinds.kind import ROWS, Function, Kind, Tensors, marked

WIDTHS = (1, 2, 3, 7, 16, 40)
BAD_VALUE = -13.0


class Rows(Kind):
    """float32 of free width: 2x."""

    name = "rows"
    weight = 12

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
        def serve(x):
            return {"y": x * 2}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        return {"x": marked(tag, draw.among(ROWS), draw.among(WIDTHS))}

    def answer(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] * 2}


class LongRows(Rows):
    """The same, with requests of more rows than one batch has."""

    name = "long_rows"
    weight = 1

    def make(self, draw: Draw, tag: int) -> Tensors:
        return {"x": marked(tag, draw.among((63, 64, 65, 130, 300)), draw.among((1, 4)))}


class PaddedRows(Rows):
    """The same in batches of allowed sizes, and with rows of different lengths in one of them."""

    name = "padded_rows"
    model = "padded"
    weight = 6

    def make(self, draw: Draw, tag: int) -> Tensors:
        return {"x": marked(tag, draw.among(ROWS), draw.among(WIDTHS))}


class ZeroRows(Rows):
    """Requests without rows, among others with some."""

    name = "zero_rows"

    def make(self, draw: Draw, tag: int) -> Tensors:
        return {"x": marked(tag, draw.among((0, 0, 1, 2)), draw.among((1, 3)))}


class HeavyRows(Rows):
    """The same on a runner's thread: it multiplies matrices besides."""

    name = "heavy_rows"
    model = "heavy"
    weight = 2

    def export(self, tf: Any, module: Any) -> Function:
        module.nothing = tf.Variable(0.0, trainable=False)
        module.matrix = tf.Variable(tf.eye(192) * 0.5, trainable=False)

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
        def serve(x):
            product = tf.fill([192, 192], tf.cast(tf.shape(x)[1], tf.float32))
            for _ in range(12):
                product = tf.tanh(tf.matmul(product, module.matrix))
            return {"y": x * 2 + module.nothing * tf.reduce_sum(product)}

        return serve


class HeavyZeroRows(HeavyRows):
    """Requests without rows there."""

    name = "heavy_zero_rows"
    weight = 1

    def make(self, draw: Draw, tag: int) -> Tensors:
        return {"x": marked(tag, draw.among((0, 1, 0, 2)), draw.among((1, 3)))}


class Mixed(Kind):
    """Three inputs and three outputs of as many dtypes."""

    name = "mixed"

    def export(self, tf: Any, module: Any) -> Function:
        spec = tf.TensorSpec

        @tf.function(
            input_signature=[
                spec([None, 2], tf.int32, name="a"),
                spec([None], tf.float64, name="b"),
                spec([None, 1, 3], tf.bool, name="flag"),
            ]
        )
        def serve(a, b, flag):
            total = tf.cast(tf.reduce_sum(a, 1), tf.float64) + b
            return {"total": total, "swapped": a[:, ::-1], "none": tf.logical_not(flag[:, 0])}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        rows = draw.among(ROWS)
        a = np.arange(2 * rows, dtype=np.int32).reshape(rows, 2) + tag
        return {
            "a": a,
            "b": np.arange(rows) / 4 + tag,
            "flag": (a.repeat(2, 1)[:, None, :3] % 2).astype(bool),
        }

    def answer(self, inputs: Tensors) -> Tensors:
        a = inputs["a"]
        return {"total": a.sum(1) + inputs["b"], "swapped": a[:, ::-1], "none": ~inputs["flag"][:, 0]}


class Picky(Rows):
    """Fails on a bad row, for the one request that has it."""

    name = "picky"
    model = "picky"

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def serve(x):
            check = tf.debugging.assert_none_equal(x, BAD_VALUE, message="unlucky")
            with tf.control_dependencies([check]):
                return {"y": x * 2}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        x = marked(tag, draw.among(ROWS), 2)
        if draw.one_in(8):
            x[-1, 1] = BAD_VALUE
        return {"x": x}

    def bad(self, inputs: Tensors) -> bool:
        return bool((inputs["x"] == BAD_VALUE).any())


class Classic(Kind):
    """A graph of TensorFlow 1, for `session.run`: x @ [[1], [2]] and x + 1."""

    name = "classic"
    model = "classic"
    feeds = ("x:0",)
    fetches = ("sum:0", "more:0")

    @property
    def signature(self) -> str:
        return "serving_default"

    def make(self, draw: Draw, tag: int) -> Tensors:
        return {"x": marked(tag, draw.among(ROWS), 2)}

    def answer(self, inputs: Tensors) -> Tensors:
        x = inputs["x"]
        return {"sum": x.sum(1, keepdims=True), "more": x + 1}


def export_classic(path: str) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    info = v1.saved_model.build_tensor_info
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        outputs = {"sum": tf.reduce_sum(x, 1, keepdims=True, name="sum"), "more": tf.add(x, 1, name="more")}
        definition = v1.saved_model.build_signature_def(
            {"x": info(x)}, {name: info(tensor) for name, tensor in outputs.items()}, "tests/predict"
        )
        builder = v1.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": definition})
        builder.save()
