"""Kinds that are not functions of their inputs alone: a counter, and a model that is replaced while it is called."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.differential.draw import Draw
from tests.differential.kinds.kind import ROWS, Function, Kind, Tensors, marked


class Counter(Kind):
    """Gives each number once. `broker` is the process whose counter it is, which begins at 1."""

    name = "counter"
    model = "counter"
    weight = 3
    rowwise = False
    stateful = True

    def export(self, tf: Any, module: Any) -> Function:
        module.count = tf.Variable(0, dtype=tf.int64)

        @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="x")])
        def serve(x):
            process = tf.strings.split(tf.io.read_file("/proc/self/stat"))[0]
            return {
                "count": module.count.assign_add(1, read_value=True) + 0,
                "broker": tf.strings.to_number(process, tf.int64),
                "echo": x + 1,
            }

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        return {"x": np.array(tag)}

    def answer(self, inputs: Tensors) -> Tensors:
        return {"echo": inputs["x"] + 1}

    def check(self, inputs: Tensors, answer: Tensors) -> str | None:
        """That each number comes once is for whoever sees all of them."""
        if answer.keys() != {"count", "broker", "echo"}:
            return f"outputs {sorted(answer)}"
        if answer["count"] < 1 or answer["broker"] < 2:
            return f"the counts begin at 1, not at {answer['count']} (broker {answer['broker']})"
        return self._difference(answer["echo"], inputs["x"] + 1)


class Versioned(Kind):
    """2x + the number of the version, which goes back and forth."""

    name = "versioned"
    model = "versioned"
    versions = (1, 2)

    def __init__(self, version: int = 1) -> None:
        self._version = version

    def export(self, tf: Any, module: Any) -> Function:
        version = self._version

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def serve(x):
            return {"y": x * 2 + version, "version": tf.fill([tf.shape(x)[0]], version)}

        return serve

    def make(self, draw: Draw, tag: int) -> Tensors:
        return {"x": marked(tag, draw.among(ROWS), 2)}

    def check(self, inputs: Tensors, answer: Tensors) -> str | None:
        rows = len(inputs["x"])
        given = np.asarray(answer["version"])
        if given.shape != (rows,) or not set(given.tolist()) <= set(self.versions) or len(set(given)) != 1:
            return f"version: {given.tolist()} for {rows} rows"
        return self._difference(answer["y"], inputs["x"] * 2 + np.float32(given[0]))
