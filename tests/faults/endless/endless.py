"""A model whose module import does not end as long as the test keeps a file in the gate's folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from broker import signature

_folder = Path(os.environ["ONESESSION_TEST_GATE"])
ENDLESS, HELD, ENDS = (_folder / name for name in ("endless", "held", "ends"))

if any(path.exists() for path in (ENDLESS, HELD, ENDS)):
    (_folder / f"loading.{time.monotonic_ns()}").touch()
while ENDLESS.exists():
    time.sleep(0.01)
if HELD.exists():  # in C, with the interpreter's lock
    import re

    re.match(r"(a+)+$", "a" * 60 + "b")
if ENDS.exists():
    os._exit(3)


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def slow(x: np.ndarray) -> np.ndarray:
    return x * 3
