"""A layer that Keras knows only in processes that have imported this module."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="tests")
class Tripled(tf.keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x * 3.0
