"""How a thread computes with denormals: numbers below 1.2e-38 (float32), which are slow and hardly ever wanted.

TensorFlow's pools take them for zero (tsl/platform/denormal.h, `ScopedFlushDenormal`), while a thread of ours computes
with them. A model whose ops run on our threads gives the answers of `Session.run`, bit by bit, only if our threads do
as the pools do. Python models expect what Python has everywhere else, so a thread that runs both kinds switches.

The mode is part of the floating-point environment of C (fenv.h), which is a thread's own and which a new thread
inherits from the one that starts it. On x86-64 glibc and musl store the register MXCSR behind the 28 bytes of the x87
environment; on aarch64 they store FPCR first.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from typing import Any

_ROOM = 64
"""Bytes: more than any fenv_t has."""
_BITS = {
    "x86_64": (28, 0x8040),  # FTZ: results; DAZ: operands
    "aarch64": (0, 1 << 24),  # FZ: both
}
"""By machine: the offset of a uint32 in fenv_t, and its bits."""


def _functions() -> tuple[Any, Any] | None:
    """fegetenv and fesetenv. Called with the interpreter's lock held: they take less than letting go of it."""
    for library in (None, "libm.so.6"):
        try:
            found = ctypes.PyDLL(library)
            return found.fegetenv, found.fesetenv
        except (OSError, AttributeError, TypeError):  # the last is Windows', where None is no library
            continue
    return None


def _leave_as_it_is(_: bool) -> None:
    """For a machine that this module does not know."""


def _switch() -> Callable[[bool], None]:
    place, functions = _BITS.get(platform.machine()), _functions()
    if place is None or functions is None:
        return _leave_as_it_is
    (offset, bits), (get, set_) = place, functions

    def switch(flush: bool) -> None:
        environment = (ctypes.c_ubyte * _ROOM)()
        word = ctypes.c_uint32.from_buffer(environment, offset)
        get(environment)
        word.value = word.value | bits if flush else word.value & ~bits
        set_(environment)

    return switch


flush_denormals = _switch()
"""Have the calling thread take denormals for zero, or compute with them. It costs about a microsecond."""
