"""Models whose runs do not end for some inputs, each served with a small max_run_seconds."""

from __future__ import annotations

import time

import numpy as np

from broker import signature
from tests.process.models import HEAVY_SECONDS

NO_END = 668.0
HELD = 672.0
ENDS_THE_PROCESS = 667.0
SLOW_SECONDS = 0.5


def _misbehave(x: np.ndarray) -> np.ndarray:
    values = x[:, 0].tolist()  # the memory is the next request's as soon as this one is given up
    while NO_END in values:
        time.sleep(0.01)
    if HELD in values:  # in C, with the interpreter's lock
        import re

        re.match(r"(a+)+$", "a" * 60 + "b")
    if ENDS_THE_PROCESS in values:
        import os

        os._exit(3)
    return x * 2


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def light(x: np.ndarray) -> np.ndarray:
    return _misbehave(x)


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def heavy(x: np.ndarray) -> np.ndarray:
    time.sleep(HEAVY_SECONDS)
    return _misbehave(x)


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def innocent(x: np.ndarray) -> np.ndarray:
    return x * 2


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def innocent_slow(x: np.ndarray) -> np.ndarray:
    time.sleep(SLOW_SECONDS)
    return x * 2


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def innocent_heavy(x: np.ndarray) -> np.ndarray:
    time.sleep(HEAVY_SECONDS)
    return x * 2
