"""Sets how a thread computes with denormals: numbers below 1.2e-38 (float32), which are slow and rarely useful.

TensorFlow's pools treat them as zero (tsl/platform/denormal.h, `ScopedFlushDenormal`), while our threads compute with
them by default. A model whose ops run on our threads gives bit-identical answers to `Session.run` only if our threads
use the mode of the pools. Python models expect Python's usual mode, so a thread that runs both kinds switches.

The mode is part of C's floating-point environment (fenv.h), which each thread has and a new thread inherits. On x86-64
glibc and musl store the register MXCSR behind the 28 bytes of the x87 environment; on aarch64 they store FPCR first.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from typing import Any

_ROOM = 64
"""Bytes: more than the size of any fenv_t."""
_BITS = {
    "x86_64": (28, 0x8040),  # FTZ: results; DAZ: operands
    "aarch64": (0, 1 << 24),  # FZ: both
}
"""For each machine, the offset of a uint32 in fenv_t, and the bits to set."""


def _functions() -> tuple[Any, Any] | None:
    """fegetenv and fesetenv. They are called with the interpreter's lock held, because releasing it would take
    longer."""
    for library in (None, "libm.so.6"):
        try:
            found = ctypes.PyDLL(library)
            return found.fegetenv, found.fesetenv
        except (OSError, AttributeError, TypeError):  # the last is Windows', where None is no library
            continue
    return None


def _leave_as_it_is(_: bool) -> None:
    """Do nothing, on a machine that this module does not know."""


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
"""Makes the calling thread treat denormals as zero, or compute with them. It costs about a microsecond."""
