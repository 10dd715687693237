"""Which element types cross the wire, under which codes, and what is said about the others."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tests.arrays import FIXED_SIZE
from worker_client.wire.dtypes import STRING, SUPPORTED, code_of, dtype_named, dtype_of, name_of

# As they were first given out: a broker and a worker of different releases must agree on them.
CODES = {
    "bool": 1,
    "int8": 2,
    "int16": 3,
    "int32": 4,
    "int64": 5,
    "uint8": 6,
    "uint16": 7,
    "uint32": 8,
    "uint64": 9,
    "float16": 10,
    "float32": 11,
    "float64": 12,
    "complex64": 13,
    "complex128": 14,
    "bfloat16": 15,
    "string": 16,
    "float8_e5m2": 17,
    "float8_e4m3fn": 18,
    "float8_e5m2fnuz": 19,
    "float8_e4m3fnuz": 20,
    "float8_e4m3b11fnuz": 21,
    "int4": 22,
    "uint4": 23,
    "int2": 24,
    "uint2": 25,
}
OF_ML_DTYPES = ("bfloat16", "float8_e5m2", "float8_e4m3fn", "int4", "uint2")


def test_codes_are_never_renumbered():
    """The codes of protocol 1 are what they were; new types are added behind them."""
    assert {name: code_of(dtype_named(name)) for name in SUPPORTED}.items() >= CODES.items()


def test_the_page_shows_these_codes():
    """The table in docs/protocol.md is that of the code, with the bytes of an element."""
    page = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (.+) \|$", page, re.MULTILINE)
    told = {name: (int(code), size) for code, name, size in rows}
    assert {name: code for name, (code, _) in told.items()} == CODES
    for name in FIXED_SIZE:
        assert told[name][1] == str(dtype_named(name).itemsize)


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_supported_type_survives_the_wire(name: str):
    """Name to dtype to code and back gives the same dtype."""
    dtype = dtype_named(name)
    assert name_of(dtype) == name
    assert dtype_of(code_of(dtype)) == dtype


@pytest.mark.parametrize("name", OF_ML_DTYPES)
def test_what_numpy_lacks_is_of_ml_dtypes(name: str):
    """bfloat16 and the types of a byte and less are the same types that TensorFlow and ml_dtypes use."""
    assert dtype_named(name) == np.dtype(getattr(ml_dtypes, name))
    assert dtype_named(name).itemsize == (2 if name == "bfloat16" else 1)


def test_strings_are_objects():
    """As in TensorFlow: arrays of dtype object hold bytes objects. Nothing else of dtype object has a code."""
    assert dtype_named("string") == STRING == np.dtype(object)
    assert not any(dtype_named(name).hasobject for name in FIXED_SIZE)


@pytest.mark.parametrize(
    ("alias", "name"), [("q", "int64"), ("l", "int64"), ("Q", "uint64"), ("d", "float64")]
)
def test_platform_names_of_one_type_have_one_code(alias: str, name: str):
    """`long` and `long long`, which numpy keeps apart, are one type on the wire."""
    assert code_of(np.dtype(alias)) == CODES[name]


@pytest.mark.parametrize("text", [np.dtype(t).newbyteorder("S").str for t in ("f4", "i8", "c16", "u2")])
def test_foreign_byte_order_is_refused(text: str):
    """A dtype of foreign byte order is refused under its own name, since its plain name would be accepted."""
    with pytest.raises(TypeError, match=rf"dtype '{text}' cannot be sent to the broker; it takes native"):
        code_of(np.dtype(text))


def test_byte_order_means_nothing_for_single_bytes():
    """One-byte types have no byte order to be foreign in."""
    assert code_of(np.dtype(">u1")) == CODES["uint8"]


@pytest.mark.parametrize(
    "dtype",
    [
        "U5",
        "S3",
        "V8",
        "M8[s]",
        "m8[ms]",
        "g",
        [("a", "f4")],
        [("a", "O")],
        ("f4", (2,)),
        ml_dtypes.float8_e3m4,
    ],
    ids=str,
)
def test_what_has_no_fixed_numeric_form_is_refused(dtype: object):
    """Strings of fixed width, dates, structs and types without a code raise TypeError that lists what is taken."""
    with pytest.raises(TypeError, match=r"cannot be sent to the broker; it takes native bool, .*float32"):
        code_of(np.dtype(dtype))


@pytest.mark.parametrize("name", ["object", "str", "float128", "f4", "", "Float32", "int"])
def test_only_full_names_are_names(name: str):
    """A name that is not on the list is refused, even where numpy would understand it."""
    with pytest.raises(TypeError, match=rf"dtype '{name}' cannot be sent to the broker"):
        dtype_named(name)


@pytest.mark.parametrize("code", [0, 255, 2**63, 2**64 - 1, max(CODES.values()) + 1000])
def test_a_code_that_stands_for_nothing_is_refused(code: int):
    """Unknown codes raise TypeError, and so does 0, which is what unwritten memory holds."""
    with pytest.raises(TypeError, match=f"no dtype has the wire code {code}"):
        dtype_of(code)


def test_a_missing_ml_dtypes_is_named(monkeypatch: pytest.MonkeyPatch):
    """Without ml_dtypes only its own types are refused, and the error says what to install."""
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert dtype_named("float16") == np.float16
    assert dtype_named("uint32") == np.uint32
    for name in OF_ML_DTYPES:
        with pytest.raises(TypeError, match=f"a {name} tensor needs .*: pip install ml_dtypes"):
            dtype_named(name)


def test_an_old_ml_dtypes_is_named(monkeypatch: pytest.MonkeyPatch):
    """One that has bfloat16 alone serves bfloat16."""
    monkeypatch.delattr(ml_dtypes, "int4")
    assert dtype_named("bfloat16").itemsize == 2
    with pytest.raises(TypeError, match="newer ml_dtypes than .*: pip install -U ml_dtypes"):
        dtype_named("int4")
