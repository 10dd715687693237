"""Normalises the state that each of our programs inherits from its parent, before anything else."""

from __future__ import annotations

import io
import sys

from broker.own_process import descriptors
from broker.process import signals


def settle() -> None:
    """Set up standard descriptors, signals, and output that can carry file names of any bytes. Called on the main
    thread only."""
    descriptors.open_missing()
    signals.settle()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="surrogateescape")
