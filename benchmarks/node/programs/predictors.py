"""The two arms, as a function that predicts: TensorFlow and the model in each worker, or one broker a node."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

PER_WORKER, BROKER = "worker", "broker"
Predict = Callable[[np.ndarray], np.ndarray]


@functools.cache
def predictor(arm: str, model: str, idle_seconds: float) -> Predict:
    """Once a process, as who writes it by hand would."""
    return _in_this_process(model) if arm == PER_WORKER else _of_the_node(model, idle_seconds)


def _in_this_process(model: str) -> Predict:
    import tensorflow as tf

    serve = tf.saved_model.load(model).signatures["serving_default"]
    return lambda x: serve(x=tf.constant(x))["y"].numpy()


def _of_the_node(model: str, idle_seconds: float) -> Predict:
    from worker_client import node

    return node.shared({"wide": model}, idle_seconds=idle_seconds).model("wide").predict
