"""The element types a tensor can have on the wire: one small code for each.

All types of fixed size that numpy and TensorFlow share. Codes are part of the wire protocol: append, never
renumber. 0 is no type, so that unwritten memory is refused.
"""

from __future__ import annotations

import numpy as np

_NAMES = {
    1: "bool",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "uint8",
    7: "uint16",
    8: "uint32",
    9: "uint64",
    10: "float16",
    11: "float32",
    12: "float64",
    13: "complex64",
    14: "complex128",
    15: "bfloat16",
}
_CODES = {name: code for code, name in _NAMES.items()}

SUPPORTED = tuple(_CODES)


def dtype_named(name: str) -> np.dtype:
    """The numpy dtype called `name`. Raises TypeError for a type that cannot cross the wire.

    numpy knows bfloat16 only through ml_dtypes, which is imported when a model first needs it.
    """
    if name not in _CODES:
        raise TypeError(f"dtype {name!r} cannot be sent to the broker; it takes {', '.join(SUPPORTED)}")
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError("a bfloat16 tensor needs the package ml_dtypes: pip install ml_dtypes") from None
    dtype: np.dtype = np.dtype(ml_dtypes.bfloat16)
    return dtype


def code_of(dtype: np.dtype) -> int:
    """The wire code of a native-endian dtype. Raises TypeError for any other."""
    code = _CODES.get(dtype.name)
    if code is None or not dtype.isnative:
        shown = dtype.str if not dtype.isnative else dtype.name
        raise TypeError(
            f"dtype {shown!r} cannot be sent to the broker; it takes native {', '.join(SUPPORTED)}"
        )
    return code


def dtype_of(code: int) -> np.dtype:
    """The dtype behind a wire code. Raises TypeError for a code that stands for none."""
    if code not in _NAMES:
        raise TypeError(f"no dtype has the wire code {code}")
    return dtype_named(_NAMES[code])
