"""What a worker calls: the broker (`brokered.py`), or the model in its own process (`in_process.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from broker.bench.load.loops import Caller

Named = Mapping[str, np.ndarray]
"""Inputs or outputs by their names."""


class Opened(Protocol):
    """An arm in a worker's process, ready to be called."""

    @property
    def about(self) -> Mapping[str, Any]:
        """Facts about the model."""
        ...

    def prepared(self, inputs: Named) -> Any:
        """The inputs in the form that `call` takes, made beforehand."""
        ...

    def named(self, answer: Any) -> Named:
        """What `call` returned, by the outputs' names."""
        ...

    def caller(self) -> Caller:
        """One for each thread."""
        ...


class WorkerArm(Protocol):
    """Sent to the master and from there to its workers: plain values."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    def prepare(self) -> None:
        """Called in the master, before it forks."""
        ...

    def open(self) -> AbstractContextManager[Opened]:
        """Called in a worker."""
        ...
