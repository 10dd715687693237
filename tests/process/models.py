"""Python models for tests, served as `tests.process.models:NAME`; SOURCES maps each name to its source.

Rows tell themselves apart: what comes back depends on what was sent, so that a mix-up cannot go unseen. Models that
must be caught in the act wait at a *gate*: they say that they entered, and go on when the test opens
(`tests.brokers.Gate`).
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from broker import signature as signed
from tests.arrays import FIXED_SIZE
from worker_client.wire.dtypes import dtype_named

signature = partial(signed, independent_rows=True)  # tests are about joined requests, too

GATE_VARIABLE = "ONESESSION_TEST_GATE"
BAD_VALUE = 13.0
HEAVY_SECONDS = 0.002
"""What a model takes on zeros to count as heavy, and so to run on a thread of its own."""

BFLOAT16 = dtype_named("bfloat16")


def pass_gate(number: int) -> None:
    """Say that request `number` has entered the model; return when the test has opened for it. 0 passes."""
    if number == 0:
        return
    gate = Path(os.environ[GATE_VARIABLE])
    (gate / f"entered.{os.getpid()}.{number}.{time.monotonic_ns()}").touch()
    while not (gate / f"open.{number}").exists() and not (gate / "open.all").exists():
        time.sleep(0.002)


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def double(x: np.ndarray) -> np.ndarray:
    return x * 2


@signature(
    inputs={"x": ("float32", [None, 4]), "row": ("int64", [None])},
    outputs={"y": ("float64", [None, 4]), "rows_in_batch": ("int64", [None])},
)
def tell(x: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y = 2x + row; and the number of rows that ran together."""
    return x * 2.0 + row[:, None], np.full(len(x), len(x), np.int64)


@signature(
    inputs={"a": ("int32", [None, 2]), "b": ("float64", [None]), "flag": ("bool", [None, 1, 3])},
    outputs={"total": ("float64", [None]), "swapped": ("int32", [None, 2]), "none": ("bool", [None, 3])},
)
def mixed(a: np.ndarray, b: np.ndarray, flag: np.ndarray) -> dict[str, np.ndarray]:
    return {"none": ~flag[:, 0], "swapped": a[:, ::-1], "total": a.sum(1) + b}


@signature(inputs={"a": ("float64", []), "b": ("float64", [])}, outputs={"sum": ("float64", [])})
def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a + b)


@signature(inputs={}, outputs={"y": ("int32", [3])})
def constant() -> np.ndarray:
    return np.array([1, 2, 3], np.int32)


@signature(inputs={"n": ("int64", [])}, outputs={"y": ("uint8", [None])})
def produce(n: np.ndarray) -> np.ndarray:
    """`n` bytes of 0 to 250, repeated: an output whose size is not known before the run."""
    return np.resize(np.arange(251, dtype=np.uint8), int(n))


@signature(inputs={"x": ("uint8", [None])}, outputs={"sum": ("int64", []), "n": ("int64", [])})
def consume(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(x.sum(dtype=np.int64)), np.asarray(len(x))


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def picky(x: np.ndarray) -> np.ndarray:
    """Fails if any row has BAD_VALUE in it."""
    if (x == BAD_VALUE).any():
        raise ValueError(f"unlucky row {int((x == BAD_VALUE).any(1).argmax())} of {len(x)}")
    return x * 2


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def picky_heavy(x: np.ndarray) -> np.ndarray:
    time.sleep(HEAVY_SECONDS)
    return picky(x)


@signature(inputs={"bytes": ("int64", [])}, outputs={"before": ("int64", [])})
def stacks(bytes: np.ndarray) -> np.ndarray:
    """The broker's next threads get stacks of this size; 0 is the usual one."""
    return np.asarray(threading.stack_size(int(bytes)))


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def deadly(x: np.ndarray) -> np.ndarray:
    """Takes the whole process with it if any row has BAD_VALUE in it, as a fault in native code does."""
    if (x == BAD_VALUE).any():
        Path(os.environ[GATE_VARIABLE], f"died.{os.getpid()}").touch()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()
    return x * 2


@signature(
    inputs={"number": ("int64", [None]), "x": ("float32", [None])},
    outputs={"y": ("float32", [None]), "rows_in_batch": ("int64", [None]), "run": ("int64", [None])},
)
def gated(number: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """On a runner of its own; y = 2x, once the gate is open for the first row's number. Runs are counted."""
    run = next(_runs)
    time.sleep(HEAVY_SECONDS)
    if len(number):
        pass_gate(int(number[0]))
    return x * 2, np.full(len(x), len(x), np.int64), np.full(len(x), run)


_runs = itertools.count()


@signature(
    inputs={"number": ("int64", [None]), "x": ("float32", [None])},
    outputs={"y": ("float32", [None]), "rows_in_batch": ("int64", [None]), "order": ("int64", [None])},
    stateful=True,
)
def gated_stateful(number: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """As `gated`, but it changes something: which run this is. Fails if two run at once, or if x is BAD_VALUE."""
    if not _alone.acquire(blocking=False):
        raise RuntimeError("two run at once")
    try:
        order = next(_orders)
        pass_gate(int(number[0]))
        if x[0] == BAD_VALUE:
            raise ValueError(f"run {order} is unlucky")
        return x * 2, np.full(len(x), len(x), np.int64), np.full(len(x), order)
    finally:
        _alone.release()


_alone = threading.Lock()
_orders = itertools.count(1)


@signature(
    inputs={"number": ("int64", [None]), "x": ("float32", [None, None])},
    outputs={"y": ("float32", [None, None]), "sum": ("float32", [None]), "width": ("int64", [None])},
)
def gated_ragged(number: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y = 2x, the sum of each row, and how wide the batch was."""
    time.sleep(HEAVY_SECONDS)
    if len(number):
        pass_gate(int(number[0]))
    return x * 2, x.sum(1, dtype=np.float32), np.full(len(x), x.shape[1], np.int64)


@signature(inputs={"x": ("int64", [None])}, outputs={"y": ("int64", [None, None])})
def as_wide_as_its_largest(x: np.ndarray) -> np.ndarray:
    """Row i has x[i] ones, then zeros: its width depends on the other rows."""
    return (np.arange(x.max(initial=0)) < x[:, None]).astype(np.int64)


@signature(inputs={"x": ("float32", [None, None])}, outputs={"y": ("float32", [None, None])})
def no_empty_row(x: np.ndarray) -> np.ndarray:
    """Fails if there is nothing but zeros in a row."""
    if not x.any(1).all():
        raise ValueError("a row of zeros")
    return x * 2


@signature(inputs={"number": ("int64", []), "x": ("float32", [])}, outputs={"y": ("float32", [])})
def gated_inline(number: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The same on the intake thread, one at a time: while it waits, the broker takes nothing."""
    pass_gate(int(number))
    return np.asarray(x * 2)


@signature(inputs={"number": ("int64", []), "n": ("int64", [])}, outputs={"y": ("uint8", [None])})
def gated_produce(number: np.ndarray, n: np.ndarray) -> np.ndarray:
    time.sleep(HEAVY_SECONDS)
    pass_gate(int(number))
    return produce(n)


@signature(inputs={"how": ("int32", [])}, outputs={"y": ("float32", [None, 2])})
def misbehave(how: np.ndarray) -> Any:
    """What a Python model can do wrong; 0 is right."""
    wrongs: dict[int, Callable[[], Any]] = {
        0: lambda: np.ones((1, 2), np.float32),
        1: lambda: np.ones((1, 3), np.float32),
        2: lambda: np.ones((1, 2), np.float64),
        3: lambda: (np.ones((1, 2), np.float32),) * 2,
        4: lambda: None,
        5: lambda: "text",
        6: lambda: exec("raise SystemExit(3)"),
        7: lambda: exec("raise KeyboardInterrupt"),
        8: lambda: os.kill(os.getpid(), signal.SIGKILL),
    }
    return wrongs[int(how)]()


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def loses_rows(x: np.ndarray) -> np.ndarray:
    """Right for one row, one row short for more."""
    return x if len(x) < 2 else x[1:]


def _echo_of(dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    @signature(inputs={"x": (dtype, None)}, outputs={"y": (dtype, None)})
    def echo(x: np.ndarray) -> np.ndarray:
        return x

    return echo


class _Echoes:
    """`tests.process.models:echoes.float32`: gives back what it gets, of any rank."""


echoes = _Echoes()
for _dtype in FIXED_SIZE:
    setattr(echoes, _dtype, _echo_of(_dtype))

SOURCES = {
    name: f"{__name__}:{name}"
    for name in (
        "double",
        "tell",
        "mixed",
        "add",
        "constant",
        "produce",
        "consume",
        "picky",
        "picky_heavy",
        "stacks",
        "deadly",
        "gated",
        "gated_ragged",
        "gated_stateful",
        "as_wide_as_its_largest",
        "no_empty_row",
        "gated_inline",
        "gated_produce",
        "misbehave",
        "loses_rows",
    )
}
ECHOES = {f"echo_{dtype}": f"{__name__}:echoes.{dtype}" for dtype in FIXED_SIZE}


def sources(*names: str) -> dict[str, str]:
    return {name: {**SOURCES, **ECHOES}[name] for name in names}
