"""Loading beside threads that serve: what it takes of the interpreter, which all of them share.

Measured while MobileNetV2 was loaded over and over in a process that ran a light model every millisecond: the light
model waits for the loader's bytecode (as long as the switch interval, several times a run) and for collections of
garbage (most of a second, as TensorFlow alone has a million objects to look at). What is left is C code that keeps the
interpreter, above all the import of the graph in one piece.

No thread is given a lower priority: one that has the interpreter and gets no processor would stop them all, and
TensorFlow's pools would inherit it, and keep it.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Iterator

SWITCH_SECONDS = 0.0001
"""How long a thread runs Python before another one that waits has its turn; CPython's default is 5 ms."""


_lock = threading.Lock()
_open = 0
_before = (0.0, True)


@contextlib.contextmanager
def low_switch_interval() -> Iterator[None]:
    """While it is open, no other thread waits long for the interpreter. Any thread; the last to leave puts it back."""
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
    """Take everything that there is now, which stays for good, out of later collections."""
    gc.collect()
    gc.freeze()
