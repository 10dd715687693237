"""Kinds whose rows depend on each other, though their first dimension is free."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.differential.draw import Draw
from tests.differential.kinds.kind import ROWS, Function, Kind, Tensors, marked


class Ranking(Kind):
    """The probabilities of one request's candidates: they add up to 1."""

    name = "ranking"
    model = "dependent"
    rowwise = False
    tolerance = 1e-5

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="score")])
        def serve(score):
            return {"p": tf.nn.softmax(score, axis=0)}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        score = (tag * 7 % 1009 + 13 * np.arange(1 + draw.among(ROWS)) * (tag % 5 + 1)) % 31 / 8
        return {"score": score.astype(np.float32)}

    def answer(self, inputs: Tensors) -> Tensors:
        e = np.exp(inputs["score"] - inputs["score"].max())
        return {"p": (e / e.sum()).astype(np.float32)}


class LongRanking(Ranking):
    """More candidates than one batch has."""

    name = "long_ranking"
    weight = 1

    def make(self, draw: Draw, tag: int) -> Tensors:
        rows = draw.among((65, 100, 200))
        return {"score": ((tag * 7 % 1009 + 13 * np.arange(rows)) % 31 / 8).astype(np.float32)}


class RunningSums(Kind):
    """Each row with all before it."""

    name = "running_sums"
    model = "dependent"
    rowwise = False

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.int64, name="x")])
        def serve(x):
            return {"sums": tf.cumsum(x)}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        rows = draw.among(ROWS)
        return {"x": np.arange(2 * rows, dtype=np.int64).reshape(rows, 2) + tag}

    def answer(self, inputs: Tensors) -> Tensors:
        return {"sums": inputs["x"].cumsum(0)}


class Normalised(Kind):
    """Less the mean of the request's rows, as a batch normalisation left in training mode."""

    name = "normalised"
    model = "dependent"
    rowwise = False
    tolerance = 1e-4

    def export(self, tf: Any, module: Any) -> Function:
        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float64, name="x")])
        def serve(x):
            return {"y": x - tf.reduce_mean(x, 0)}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        rows = 1 + draw.among(ROWS)
        x = marked(tag, rows, 3).astype(np.float64)
        return {"x": x + np.arange(rows)[:, None] * (tag % 997)}

    def answer(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] - inputs["x"].mean(0)}
