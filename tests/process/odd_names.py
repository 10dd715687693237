"""A model whose names are what a careless page would take for markup or for the end of a string."""

from __future__ import annotations

import numpy as np

from broker import signature

INPUT = "x\"'<script>document.title='taken'</script>"
OUTPUT = "</code></pre><img src=x onerror=\"document.title='taken'\">"


@signature(
    inputs={INPUT: ("float32", [None, 2])}, outputs={OUTPUT: ("float32", [None, 2])}, independent_rows=True
)
def odd(x: np.ndarray) -> dict[str, np.ndarray]:
    return {OUTPUT: x * 2}


@signature(
    inputs={
        "text": ("string", [None]),
        "half": ("bfloat16", [None, 3]),
        "z": ("complex64", []),
        "n": ("int4", [2]),
    },
    outputs={"n": ("int64", [])},
)
def types(*given: np.ndarray) -> dict[str, np.ndarray]:
    return {"n": np.asarray(len(given))}
