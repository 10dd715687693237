"""Reduces how much loading a model delays serving threads, which share the interpreter.

Measured while MobileNetV2 was loaded repeatedly in a process that ran a light model every millisecond: the light model
waits for the loader's bytecode (for the switch interval, several times per run) and for garbage collections (most of a
second, because TensorFlow alone has a million objects to scan). The rest is C code that holds the interpreter's lock,
above all the import of the graph in one piece.

No thread gets a lower priority: a thread that holds the lock without getting a processor would stop all others, and
TensorFlow's pools would inherit the priority, and keep it.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Iterator

SWITCH_SECONDS = 0.0001
"""How long a thread runs Python code before a waiting thread gets its turn; CPython's default is 5 ms."""


_lock = threading.Lock()
_open = 0
_before = (0.0, True)


@contextlib.contextmanager
def low_switch_interval() -> Iterator[None]:
    """In the block, no other thread waits long for the interpreter. Any thread may use it; the last to leave restores
    the default."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _open, _before
    with _lock:
        _open += 1
        if _open == 1:
            _before = sys.getswitchinterval(), gc.isenabled()
            sys.setswitchinterval(SWITCH_SECONDS)
            gc.disable()


def _leave() -> None:
    global _open
    with _lock:
        _open -= 1
        if _open == 0:
            switch_seconds, collects = _before
            if collects:
                gc.enable()
            sys.setswitchinterval(switch_seconds)


def freeze_gc() -> None:
    """Exclude all current objects, which will stay, from later garbage collections."""
    gc.collect()
    gc.freeze()
