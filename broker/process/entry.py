"""What each program of ours does before anything else: settles what it has inherited from whoever started it."""

from __future__ import annotations

import io
import sys

from broker.host import descriptors
from broker.process import signals


def settle() -> None:
    """Standard descriptors, signals, and output that can carry a file name of any bytes. Main thread only."""
    descriptors.open_missing()
    signals.settle()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="surrogateescape")
