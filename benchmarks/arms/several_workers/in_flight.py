"""Many requests in flight from one process, as a producer that feeds a pool has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from time import monotonic_ns

import numpy as np

from benchmarks.harness.timed import Answers

EACH = 4
"""Requests in flight for each worker: none runs dry, and the load is bounded."""


def in_flight(
    inputs: Sequence[np.ndarray],
    submit: Callable[[int, np.ndarray], None],
    receive: Callable[[], tuple[int, np.ndarray]],
    depth: int,
) -> Answers:
    """Keep `depth` requests under way. `submit` is given a number with each, which `receive` gives with its answer."""
    numbers = count()
    began: dict[int, int] = {}

    def send() -> None:
        number = next(numbers)
        began[number] = monotonic_ns()
        submit(number, inputs[number % len(inputs)])

    try:
        for _ in range(depth):
            send()
        while True:
            number, answer = receive()
            ended = monotonic_ns()
            start = began.pop(number)
            send()
            yield number % len(inputs), start, ended, answer
    finally:
        while began:
            began.pop(receive()[0])
