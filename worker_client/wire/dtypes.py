"""The element types a tensor can have on the wire: one small code for each.

These are all types that numpy and TensorFlow share: types of fixed size, some of which numpy knows only through
ml_dtypes, and strings of variable length, which are `bytes` objects in arrays of dtype object, as in TensorFlow.
TensorFlow's quantised integers (qint8 ..) are sent as plain integers (broker/models/tf/conversions.py). Codes are part
of the wire protocol: append, never renumber. 0 is not a code, so that unwritten memory is refused.
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
    16: "string",
    17: "float8_e5m2",
    18: "float8_e4m3fn",
    19: "float8_e5m2fnuz",
    20: "float8_e4m3fnuz",
    21: "float8_e4m3b11fnuz",
    22: "int4",
    23: "uint4",
    24: "int2",
    25: "uint2",
}
_CODES = {name: code for code, name in _NAMES.items()}
_OF_ML_DTYPES = ("bfloat16", "float8_", "int4", "uint4", "int2", "uint2")

STRING = np.dtype(object)

SUPPORTED = tuple(_CODES)


def dtype_named(name: str) -> np.dtype:
    """The numpy dtype called `name`. Raises TypeError for a type that cannot cross the wire.

    numpy knows bfloat16, float8 and integers of less than 8 bits only through ml_dtypes, which is imported when a model
    first needs it.
    """
    if name not in _CODES:
        raise TypeError(f"dtype {name!r} cannot be sent to the broker; it takes {', '.join(SUPPORTED)}")
    if name == "string":
        return STRING
    if not name.startswith(_OF_ML_DTYPES):
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError(f"a {name} tensor needs the package ml_dtypes: pip install ml_dtypes") from None
    if not hasattr(ml_dtypes, name):
        raise TypeError(
            f"a {name} tensor needs a newer ml_dtypes than {ml_dtypes.__version__}: pip install -U ml_dtypes"
        )
    dtype: np.dtype = np.dtype(getattr(ml_dtypes, name))
    return dtype


def name_of(dtype: np.dtype) -> str:
    """The type's name on the wire, and in messages: `string` for arrays of objects."""
    return "string" if dtype == STRING else dtype.name


def code_of(dtype: np.dtype) -> int:
    """The wire code of a native-endian dtype. Raises TypeError for any other."""
    code = _CODES.get(name_of(dtype))
    if code is None or not dtype.isnative:
        shown = dtype.str if not dtype.isnative else dtype.name
        raise TypeError(
            f"dtype {shown!r} cannot be sent to the broker; it takes native {', '.join(SUPPORTED)}"
        )
    return code


def dtype_of(code: int) -> np.dtype:
    """The dtype with this wire code. Raises TypeError for an unknown code."""
    if code not in _NAMES:
        raise TypeError(f"no dtype has the wire code {code}")
    return dtype_named(_NAMES[code])
