"""What an arm gives to be timed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Timed:
    """Only `call` is timed; `prepare` goes before it and `read` makes the answer of its result.

    `elapsed_ns` is for an arm that takes the time itself, where a clock around `call` would measure something else.
    """

    call: Callable[[np.ndarray], Any]
    prepare: Callable[[np.ndarray], Any] | None = None
    read: Callable[[Any], np.ndarray] | None = None
    elapsed_ns: Callable[[Any], int] | None = None


Factory = Callable[..., AbstractContextManager[Timed]]
"""`factory(workload, **options)`: the arm, open while its block runs."""
