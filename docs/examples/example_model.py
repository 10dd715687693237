"""The model of the examples: a Python function, so that they run without TensorFlow.

A SavedModel's directory stands in its place in your app: `--model digits=models/digits`.
"""

# ruff: noqa: INP001

import numpy as np

import broker


@broker.signature(
    inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 1])}, independent_rows=True
)
def mean(x: np.ndarray) -> np.ndarray:
    return x.mean(axis=1, keepdims=True)
