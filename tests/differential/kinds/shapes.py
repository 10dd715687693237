"""Kinds whose answer has another shape than the request: fewer rows, none at all, as wide or as large as it says."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.differential.draw import Draw
from tests.differential.kinds.kind import ROWS, Function, Kind, Tensors, marked


class Filtered(Kind):
    """Only the rows that begin with a positive number."""

    name = "filtered"
    rowwise = False

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
        def serve(x):
            return {"y": tf.boolean_mask(x, x[:, 0] > 0)}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        x = marked(tag, draw.among(ROWS), 3)
        for row in range(len(x)):
            if draw.one_in(3):
                x[row, 0] = -1
        return {"x": x}

    def answer(self, inputs: Tensors) -> Tensors:
        x = inputs["x"]
        return {"y": x[x[:, 0] > 0]}


class Total(Kind):
    """A sum over all rows: an answer without any."""

    name = "total"
    rowwise = False

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, name="x")])
        def serve(x):
            return {"sum": tf.reduce_sum(x), "most": tf.reduce_max(x, 0)}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        return {"x": marked(tag, draw.among(ROWS), draw.among((1, 3))).astype(np.int64)}

    def answer(self, inputs: Tensors) -> Tensors:
        return {"sum": inputs["x"].sum(), "most": inputs["x"].max(0)}


class Widest(Kind):
    """Rows as wide as the largest number in them says."""

    name = "as_wide_as_the_largest"
    rowwise = False

    def export(self, tf: Any, module: Any) -> Function:
        spec = tf.TensorSpec

        @tf.function(
            input_signature=[spec([None], tf.int64, name="count"), spec([None], tf.int64, name="of")]
        )
        def serve(count, of):
            return {"y": tf.cast(tf.sequence_mask(count), tf.int64) * of[:, None]}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        rows = draw.among(ROWS)
        count = np.array([draw.below(9) for _ in range(rows)])
        return {"count": count, "of": np.arange(rows) + tag}

    def answer(self, inputs: Tensors) -> Tensors:
        count = inputs["count"]
        return {"y": (np.arange(count.max()) < count[:, None]) * inputs["of"][:, None]}


class Scalars(Kind):
    """Numbers without a shape, on both sides."""

    name = "scalars"
    rowwise = False

    def export(self, tf: Any, module: Any) -> Function:
        spec = tf.TensorSpec([], tf.float64)

        @tf.function(
            input_signature=[tf.TensorSpec([], tf.float64, name="a"), tf.TensorSpec([], tf.float64, name="b")]
        )
        def serve(a, b):
            return {"sum": tf.ensure_shape(a + b, spec.shape), "less": a - b}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        return {"a": np.array(float(tag)), "b": np.array(draw.below(1000) / 4)}

    def answer(self, inputs: Tensors) -> Tensors:
        return {"sum": inputs["a"] + inputs["b"], "less": inputs["a"] - inputs["b"]}


class Ragged(Kind):
    """A ragged tensor in, and one out."""

    name = "ragged"
    weight = 3
    rowwise = False

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.float32)])
        def serve(r):
            return {"twice": r * 2, "longest": tf.reduce_max(r.row_lengths())}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        lengths = [1 + draw.below(5), *[draw.below(6) for _ in range(draw.below(6))]]
        splits = np.cumsum([0, *lengths])
        return {"r": marked(tag, int(splits[-1])), "r_1": splits}

    def answer(self, inputs: Tensors) -> Tensors:
        splits = inputs["r_1"]
        return {
            "twice.flat_values": inputs["r"] * 2,
            "twice.row_splits": splits,
            "longest": np.diff(splits).max(),
        }


class Sparse(Kind):
    """A sparse tensor in, a dense one out."""

    name = "sparse"
    weight = 3
    rowwise = False

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(input_signature=[tf.SparseTensorSpec([None, None], tf.float32)])
        def serve(s):
            return {"dense": tf.sparse.to_dense(s)}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        rows, columns = 1 + draw.below(6), 1 + draw.below(6)
        places = sorted({(draw.below(rows), draw.below(columns)) for _ in range(4)})
        return {
            "s": np.array(places, np.int64),
            "s_1": marked(tag, len(places)),
            "s_2": np.array([rows, columns], np.int64),
        }

    def answer(self, inputs: Tensors) -> Tensors:
        dense = np.zeros(inputs["s_2"], np.float32)
        dense[tuple(inputs["s"].T)] = inputs["s_1"]
        return {"dense": dense}


class Sizes(Kind):
    """As many numbers as asked for: a few, or more than a megabyte of them, from the same slot."""

    name = "tiny_and_large"
    rowwise = False

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(
            input_signature=[tf.TensorSpec([], tf.int64, name="n"), tf.TensorSpec([], tf.int64, name="start")]
        )
        def serve(n, start):
            return {"y": tf.range(start, start + n)}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        n = draw.among((1, 2, 3, 8, 100, 700))
        if draw.one_in(40):
            n = 150_000 + draw.below(30_000)
        return {"n": np.array(n), "start": np.array(tag)}

    def answer(self, inputs: Tensors) -> Tensors:
        return {"y": np.arange(inputs["n"]) + inputs["start"]}
