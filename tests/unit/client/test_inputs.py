"""The values that a caller may pass as inputs of a signature, and the errors for all others."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from worker_client.attachment.metadata import SignatureInfo
from worker_client.calls.inputs import InputValidator
from worker_client.wire.default import Default
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import Shape, Signature, TensorSpec
from worker_client.wire.tensors import MAX_RANK


def validator(**inputs: tuple[str, Shape | None]) -> InputValidator:
    """A validator for signature "serving" of model "digits" with these inputs: name=(dtype, shape)."""
    specs = tuple(TensorSpec(name, np.dtype(dtype), shape) for name, (dtype, shape) in inputs.items())
    return InputValidator("digits", 3, SignatureInfo(1, Signature("serving", specs, ())))


@pytest.fixture
def one() -> InputValidator:
    """One input, x: float32[?, 3]."""
    return validator(x=("float32", (None, 3)))


@pytest.fixture
def two() -> InputValidator:
    """Two inputs, ids: int64[?] and x: float32[?, 3], in this order."""
    return validator(ids=("int64", (None,)), x=("float32", (None, 3)))


X = np.ones((2, 3), np.float32)
IDS = np.arange(2)


def refused(of: InputValidator, inputs: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        of.prepare(inputs)
    return str(caught.value)


def test_an_array_is_passed_as_it_is(one: InputValidator):
    """An array that fits is not copied, alone or in a dict."""
    assert one.prepare(X)[0][0] is X
    assert one.prepare({"x": X})[0][0] is X


def test_a_dict_is_put_into_wire_order(two: InputValidator):
    """The arrays come in the signature's order, whatever the dict's."""
    arrays, layout = two.prepare({"x": X, "ids": IDS})
    assert [array is given for array, given in zip(arrays, (IDS, X))] == [True, True]
    assert [(placement.dtype, placement.shape) for placement in layout.placements] == [
        (np.dtype("int64"), (2,)),
        (np.dtype("float32"), (2, 3)),
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_pass(one: InputValidator, value: float):
    """Values are the model's concern: NaN and infinities are sent as any other number."""
    array = np.full((1, 3), value, np.float32)
    assert one.prepare(array)[0][0] is array


@pytest.mark.parametrize(
    "array",
    [np.ones((3, 2), np.float32).T, np.ones((4, 6), np.float32)[::2, ::2], np.ones((2, 3), np.float32)[::-1]],
    ids=["transposed", "strided", "reversed"],
)
def test_any_memory_order_passes(one: InputValidator, array: np.ndarray):
    """A non-contiguous array is passed on as it is: the one copy is the one into the slot."""
    assert one.prepare(array)[0][0] is array


def test_a_read_only_array_passes(one: InputValidator):
    """An array that may not be written is only read."""
    array = X.copy()
    array.flags.writeable = False
    assert one.prepare(array)[0][0] is array


def test_no_rows_pass(one: InputValidator):
    """A batch of no rows fits a free dimension."""
    assert one.prepare(np.empty((0, 3), np.float32))[1].placements[0].shape == (0, 3)


@pytest.mark.parametrize(
    "value", [[[1, 2, 3]], ((1.0, 2.0, 3.0),), [[True, 2, 3.5]], [range(3)], [X[0], [1, 2, 3]]]
)
def test_lists_take_the_signatures_dtype(one: InputValidator, value: Any):
    """Lists, tuples and what they hold become arrays of the input's own dtype."""
    ((array,), _) = one.prepare(value)
    assert array.dtype == np.float32
    assert array.tolist() == np.asarray(value, np.float32).tolist()


def test_a_number_takes_the_signatures_dtype():
    """A plain number is a scalar of the input's dtype; numpy's own scalars are arrays without a shape."""
    scalar = validator(x=("float32", ()))
    assert scalar.prepare(3)[0][0].dtype == np.float32
    assert scalar.prepare(np.float32(3))[0][0].shape == ()
    assert scalar.prepare(np.float64(3))[0][0].shape == ()
    assert "expects dtype float32, got complex128" in refused(scalar, np.complex128(3))


def test_a_subclass_of_ndarray_is_an_array():
    """A matrix is passed as the plain array that it is."""
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1, 2, 3]], np.float32)
    ((array,), _) = validator(x=("float32", (None, 3))).prepare(matrix)
    assert type(array) is np.ndarray


def test_bfloat16_passes():
    """An array of ml_dtypes' bfloat16 fits an input of that type, and a list becomes one."""
    half = validator(x=(ml_dtypes.bfloat16, (None,)))
    array = np.ones(3, ml_dtypes.bfloat16)
    assert half.prepare(array)[0][0] is array
    assert half.prepare([1, 2, 3])[0][0].dtype == ml_dtypes.bfloat16


def test_a_signature_without_inputs():
    """A signature that takes nothing is called with an empty dict."""
    assert validator().prepare({})[0] == ()
    assert validator().prepare({})[1].placements == ()


# -- refusals ------------------------------------------------------------------------------------------------------

PREFIX = "model 'digits' version 3, signature 'serving'"


def test_the_wrong_dtype(one: InputValidator):
    """The error names the input, both dtypes and the conversion."""
    assert refused(one, np.ones((2, 3), complex)) == (
        f"{PREFIX}: input 'x' expects dtype float32, got complex128; convert it with .astype('float32')"
    )


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        *[
            (given, "float32")
            for given in ("int32", "uint8", "bool", "float16", "float64", ">f4", ml_dtypes.bfloat16)
        ],
        ("int64", "int32"),
        ("uint8", "int64"),
        ("bool", "uint8"),
        ("float64", "complex64"),
    ],
)
def test_a_cast_of_the_same_kind(given: Any, wanted: str):
    """The array is left as it is, and laid out as what the copy makes of it, the same for all."""
    prepare, array = validator(x=(wanted, (None,))), np.ones(3).astype(given)
    ((taken,), layout) = prepare.prepare(array)
    assert taken is array
    same = prepare.prepare(np.ones(3, wanted))[1]
    assert (layout.table, layout.placements, layout.nbytes) == (same.table, same.placements, same.nbytes)
    assert prepare.prepare(array)[1] is prepare.prepare(array)[1]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        *[(given, "float32") for given in ("object", "U1", "complex64", "M8[s]")],
        *[(given, "int64") for given in ("float64", "float16", "complex64", "U1", "m8[s]")],
        *[(given, "bool") for given in ("int64", "float32", "U1")],
        ("int64", "uint8"),
        ("int64", ml_dtypes.int4),
        ("float32", ml_dtypes.bfloat16),
    ],
)
def test_no_cast_to_another_kind(given: str, wanted: Any):
    """What numpy does not call a cast of the same kind is refused, and never done in silence."""
    told = f"expects dtype {np.dtype(wanted).name}, got {np.dtype(given).name}"
    assert told in refused(validator(x=(wanted, (None,))), np.empty(3, given))


class Column:
    """As a frame with columns of several kinds: an array of objects."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array([self._value], object).astype(dtype or object)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ([0.5], "int64"),
        ([2.0], "int64"),
        ([2], "bool"),
        ([300], "uint8"),
        ([-1], "uint8"),
        ([2**40], "int32"),
        ([2**70], "int64"),
        ([1e300], "float32"),
        ([1e5], "float16"),
        ([1j], "float32"),
        (["1.5"], "float32"),
        (["1+"], "complex64"),
        (["1e300"], "complex64"),
        (Column(0.5), "int64"),
        (Column(1e300), "float32"),
        (Column(2), "bool"),
        (Column(2**70), "int64"),
    ],
)
def test_a_list_whose_values_would_change(value: Any, wanted: str):
    """Lists are not cut off, wrapped round or made infinite."""
    assert "cannot be converted" in refused(validator(x=(wanted, (None,))), value)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ([1, 0], "bool"),
        ([255], "uint8"),
        ([True], "float32"),
        ([1], "float16"),
        ([], "int64"),
        ([float("inf")], "float32"),
    ],
)
def test_a_list_whose_values_are_kept(value: list[Any], wanted: str):
    """An integer may become a float, and a number any type that holds its value."""
    ((array,), _) = validator(x=(wanted, (None,))).prepare(value)
    assert array.dtype == wanted
    assert array.tolist() == value


def test_complex_numbers_as_texts():
    """As they come out of JSON, which has no other way to write them."""
    ((array,), _) = validator(x=("complex64", (None, 2))).prepare([["1+2j", "(3-1j)"], [4, "5j"]])
    assert array.dtype == np.complex64
    assert array.tolist() == [[1 + 2j, 3 - 1j], [4, 5j]]


def test_a_strict_handle_casts_nothing():
    """What is not of the signature's own dtype and byte order is refused; lists have none of their own."""
    specs = (TensorSpec("x", np.dtype("float32"), (None, 3)),)
    strict = InputValidator("digits", 3, SignatureInfo(1, Signature("serving", specs, ())), strict=True)
    assert strict.prepare(X)
    assert strict.prepare([[1, 2, 3]])
    for given in ("float64", "uint8", "float16"):
        assert f"expects dtype float32, got {given}; convert it with" in refused(strict, X.astype(given))
    assert refused(strict, X.astype(X.dtype.newbyteorder("S"))) == (
        f"{PREFIX}: input 'x' expects dtype float32, got float32 of foreign byte order; "
        "convert it with .astype('float32')"
    )


def test_the_wrong_shape(one: InputValidator):
    """The error names the input, the shape wanted with ? where it is free, and the shape that came."""
    expected = f"{PREFIX}: input 'x' expects shape [?, 3], got [2, 4]"
    assert refused(one, np.ones((2, 4), np.float32)) == expected


def test_a_missing_batch_dimension(one: InputValidator):
    """Where one row came without its batch dimension, the error says how to add it."""
    assert refused(one, np.ones(3, np.float32)) == (
        f"{PREFIX}: input 'x' expects shape [?, 3], got [3]; the first dimension counts rows: pass x[None] for one row"
    )
    assert one.prepare(np.ones(3, np.float32)[None])


@pytest.mark.parametrize("shape", [(), (4,), (1, 2, 3), (3, 1)])
def test_the_batch_dimension_is_not_blamed_for_everything(one: InputValidator, shape: tuple[int, ...]):
    """The hint is given only where following it would help."""
    assert "x[None]" not in refused(one, np.ones(shape, np.float32))


def test_an_array_for_several_inputs(two: InputValidator):
    """One array where there are several inputs: the error lists them with dtypes and shapes."""
    assert refused(two, X) == (
        f"{PREFIX} has 2 inputs, so pass a dict with 'ids': int64[?], 'x': float32[?, 3]; got ndarray"
    )


def test_an_array_for_no_input():
    """A signature that takes nothing says so."""
    assert refused(validator(), X) == f"{PREFIX} has 0 inputs, so pass a dict with no inputs; got ndarray"


def test_an_unknown_input(two: InputValidator):
    """A name that the signature does not have is named, with those it has, before any that are missing."""
    expected = f"{PREFIX} has no input y, 3; it takes 'ids': int64[?], 'x': float32[?, 3]"
    assert refused(two, {"y": X, 3: X, "ids": IDS}) == expected


def test_a_missing_input(two: InputValidator):
    """Inputs that were not passed are named, with all that there are."""
    expected = f"{PREFIX}: input ids is missing; it takes 'ids': int64[?], 'x': float32[?, 3]"
    assert refused(two, {"x": X}) == expected


def test_which_of_several_inputs(two: InputValidator):
    """With several inputs the error names the one that does not fit."""
    assert "input 'x' expects shape" in refused(two, {"ids": IDS, "x": X[:, :2]})
    assert "input 'ids' expects dtype int64, got float32" in refused(
        two, {"ids": IDS.astype("float32"), "x": X}
    )


@pytest.mark.parametrize(
    "value",
    ["text", None, pytest.param(object(), id="object"), [[1, 2], [3]], [["a", "b", "c"]]],
    ids=str,
)
def test_what_is_no_array(one: InputValidator, value: Any):
    """What cannot be converted is refused with its type, numpy's reason, and what is wanted."""
    message = refused(one, value)
    given = f"input 'x' expects float32[?, 3]; the {type(value).__name__} given cannot be converted: "
    assert given in message or "input 'x' expects shape [?, 3], got []" in message


@pytest.mark.parametrize("wanted", ["bool", "float32", "int64"])
def test_strings_in_place_of_numbers_are_called_strings(wanted: str):
    """numpy names them by their size in bits."""
    assert "cannot be converted: it holds strings" in refused(validator(x=(wanted, (None,))), ["yes"])


@pytest.mark.parametrize("value", [[300], [-1], [2**70]])
def test_a_number_that_does_not_fit_its_type(value: list[int]):
    """A Python number outside the range of an integer input is refused rather than wrapped."""
    assert "input 'x' expects uint8[?]; the list given" in refused(validator(x=("uint8", (None,))), value)


def test_a_rank_that_no_slot_can_carry():
    """A tensor of more dimensions than the wire has is refused where the signature would take it."""
    assert f"the limit is {MAX_RANK}" in refused(
        validator(x=("float32", None)), np.ones((1,) * 9, np.float32)
    )


# -- layouts -------------------------------------------------------------------------------------------------------


def test_a_layout_is_remembered(one: InputValidator, two: InputValidator):
    """The same shapes have the very same layout each time: the slot compares by identity."""
    assert (
        one.prepare(X)[1]
        is one.prepare(X.copy())[1]
        is one.prepare({"x": X})[1]
        is one.prepare(X.tolist())[1]
    )
    both = {"ids": IDS, "x": X}
    assert two.prepare(both)[1] is two.prepare(both)[1]
    assert one.prepare(X)[1] is not one.prepare(X[:1])[1]


def test_zero_copy_requests_share_the_layouts(one: InputValidator, two: InputValidator):
    """`layout_of` and `prepare` know each other's layouts."""
    assert one.layout_of([(2, 3)]) is one.prepare(X)[1]
    assert two.layout_of([(2,), (2, 3)]) is two.prepare({"ids": IDS, "x": X})[1]


def test_zero_copy_requests_are_checked(two: InputValidator):
    """`layout_of` refuses what `prepare` would."""
    with pytest.raises(InvalidInput, match=r"input 'x' expects shape \[\?, 3\], got \[2, 4\]"):
        two.layout_of([(2,), (2, 4)])


def test_a_refusal_is_not_remembered(one: InputValidator):
    """What was refused once is refused again, and does not disturb what fits."""
    for _ in range(2):
        refused(one, np.ones((2, 4), np.float32))
        refused(one, np.ones((2, 3), complex))
        one.prepare(X)


def test_endless_shapes_do_not_fill_memory(one: InputValidator):
    """However many shapes come, a bounded number is remembered, and each still gets its layout."""
    for rows in range(2000):
        assert one.layout_of([(rows, 3)]).placements[0].shape == (rows, 3)
    assert len(one._layouts) <= 256


@pytest.fixture
def lenient() -> InputValidator:
    """x: float32[?, 3], and temperature: float32[] = 2.0."""
    default = Default.of(np.array(2.0, np.float32))
    specs = (
        TensorSpec("temperature", np.dtype("float32"), (), default=default),
        TensorSpec("x", np.dtype("float32"), (None, 3)),
    )
    return InputValidator("digits", 3, SignatureInfo(1, Signature("serving", specs, ())))


@pytest.mark.parametrize("inputs", [{"x": X}, X, X.tolist()])
def test_an_input_with_a_default_may_be_left_out(lenient: InputValidator, inputs: Any):
    """Its default takes its place; an array then stands for the one other input."""
    (temperature, x), layout = lenient.prepare(inputs)
    assert temperature == 2.0
    np.testing.assert_array_equal(x, X)
    assert layout.placements[0].shape == ()
    assert lenient.given(inputs) == ("x",)


def test_what_is_given_goes_before_the_default(lenient: InputValidator):
    """A value of the caller's is checked like any other."""
    assert lenient.prepare({"x": X, "temperature": 4})[0][0] == 4.0
    assert lenient.given({"x": X, "temperature": 4}) == ("temperature", "x")
    assert "input 'temperature' expects shape []" in refused(lenient, {"x": X, "temperature": [1.0, 2.0]})


def test_the_others_are_missing_all_the_same(lenient: InputValidator):
    """The error shows what may be left out."""
    assert "input x is missing; it takes 'temperature': float32[] = 2.0, 'x'" in refused(lenient, {})
