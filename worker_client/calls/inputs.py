"""Checks the caller's inputs against a signature before anything is sent.

Another dtype of the same kind is cast while it is copied into the slot: float64 or uint8 to float32, int64 to int32, as
`numpy.can_cast(..., "same_kind")` says, but never a float to an integer. A dtype and shape that were accepted once are
cached with their layout, so a repeated call costs one look-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from worker_client.attachment.metadata import SignatureInfo
from worker_client.wire.errors import InvalidInput
from worker_client.wire.signature import TensorSpec, format_shape, label_of
from worker_client.wire.tensors import TensorLayout, lay_out

_REMEMBERED = 256
_NUMBERS = (
    "biufc"  # kinds of dtypes; numpy accepts any cast to the dtypes of ml_dtypes, which have other kinds
)
Arrays = tuple[np.ndarray, ...]


class InputValidator:
    """Turns inputs for one signature into arrays in wire order and their layout. Thread-safe. With `strict` it casts
    nothing."""

    __slots__ = ("_alone", "_layouts", "defaults", "label", "names", "signature", "strict")

    strings = False

    def __init__(self, model: str, version: int, info: SignatureInfo, strict: bool = False) -> None:
        self.strict = strict
        self.signature = info.signature
        self.label = label_of(model, version, info.signature.name)
        self.names = tuple(spec.name for spec in info.signature.inputs)
        self.defaults = {
            spec.name: spec.default.array(spec.dtype)
            for spec in info.signature.inputs
            if spec.default is not None
        }
        self._alone = self._only_input()
        self._layouts: dict[Any, TensorLayout] = {}

    def _only_input(self) -> TensorSpec | None:
        """The input that a bare array stands for: the only input, or the only one without a default."""
        specs = self.signature.inputs
        wanted = specs if len(specs) == 1 else [spec for spec in specs if spec.name not in self.defaults]
        return wanted[0] if len(wanted) == 1 else None

    def prepare(self, inputs: Any) -> tuple[Arrays, TensorLayout]:
        """Arrays and layout of `inputs`: an array (of the one input that has no default) or {name: array}. The arrays
        may be of other dtypes than the layout, and are cast as they are copied.

        Raises InvalidInput, which names the input, what was expected and what was given.
        """
        if type(inputs) is np.ndarray and len(self.names) == 1:
            arrays: Arrays = (inputs,)
            layout = self._layouts.get((inputs.dtype, inputs.shape))
            if layout is not None:
                return arrays, layout
        else:
            arrays = self._collect(inputs)
        key = tuple((array.dtype, array.shape) for array in arrays)
        layout = self._layouts.get(key[0] if len(key) == 1 else key)
        if layout is None:
            for spec, array in zip(self.signature.inputs, arrays):
                self._check(spec, array)
            layout = self._remember(key, [array.shape for array in arrays])
        return arrays, layout

    def layout_of(self, shapes: list[tuple[int, ...]]) -> TensorLayout:
        """The layout of inputs of these shapes, in wire order, with the signature's dtypes."""
        for spec, shape in zip(self.signature.inputs, shapes):
            self._check_shape(spec, shape)
        key = tuple((spec.dtype, shape) for spec, shape in zip(self.signature.inputs, shapes))
        return self._layouts.get(key[0] if len(key) == 1 else key) or self._remember(key, shapes)

    def given(self, inputs: Any) -> tuple[str, ...]:
        """The names of the inputs that `inputs` gives; the others have their defaults."""
        if not self.defaults:
            return self.names
        if isinstance(inputs, Mapping):
            return tuple(name for name in self.names if name in inputs)
        return self.names if self._alone is None else (self._alone.name,)

    def fill(self, inputs: Mapping[str, Any]) -> None:
        """Write each default into the array that the app writes in place, if the array has the default's shape."""
        for name, value in self.defaults.items():
            if inputs[name].shape == value.shape:
                inputs[name][...] = value

    def _remember(
        self, key: tuple[tuple[np.dtype, tuple[int, ...]], ...], shapes: list[tuple[int, ...]]
    ) -> TensorLayout:
        try:
            layout = lay_out([(spec.dtype, shape) for spec, shape in zip(self.signature.inputs, shapes)])
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{self.label}: {', '.join(self.names)}: {error}") from None
        if len(self._layouts) >= _REMEMBERED:
            self._layouts.clear()
        self._layouts[key[0] if len(key) == 1 else key] = layout
        return layout

    def _collect(self, inputs: Any) -> Arrays:
        specs, alone, defaults = self.signature.inputs, self._alone, self.defaults
        if not isinstance(inputs, Mapping):
            if alone is None:
                raise InvalidInput(
                    f"{self.label} has {len(specs)} inputs, so pass a dict with {self._wanted()}; "
                    f"got {type(inputs).__name__}"
                )
            inputs = {alone.name: _out_of_list(alone, inputs)}
        unknown = [str(name) for name in inputs if name not in self.names]
        if unknown:
            raise InvalidInput(f"{self.label} has no input {', '.join(unknown)}; it takes {self._wanted()}")
        missing = [name for name in self.names if name not in inputs and name not in defaults]
        if missing:
            raise InvalidInput(
                f"{self.label}: input {', '.join(missing)} is missing; it takes {self._wanted()}"
            )
        if defaults:
            inputs = {**defaults, **inputs}
        return tuple(self._as_array(spec, inputs[spec.name]) for spec in specs)

    def _as_array(self, spec: TensorSpec, value: Any) -> np.ndarray:
        """Arrays stay as they are; lists, numbers and the like are converted to the input's dtype, if that keeps their
        values."""
        if isinstance(value, (np.ndarray, np.generic)):
            return np.asarray(value)
        try:
            return _converted(value, spec.dtype)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise InvalidInput(
                f"{self.label}: input {spec.name!r} expects {spec}; the {type(value).__name__} given "
                f"cannot be converted: {error}"
            ) from None

    def _check(self, spec: TensorSpec, array: np.ndarray) -> None:
        if array.dtype != spec.dtype and (self.strict or not casts(array.dtype, spec.dtype)):
            raise InvalidInput(
                f"{self.label}: input {spec.name!r} expects dtype {spec.dtype.name}, got {array.dtype.name}"
                f"{'' if array.dtype.isnative else ' of foreign byte order'}; "
                f"convert it with .astype({spec.dtype.name!r})"
            )
        self._check_shape(spec, array.shape)

    def _check_shape(self, spec: TensorSpec, shape: tuple[int, ...]) -> None:
        if not spec.accepts(shape):
            raise InvalidInput(
                f"{self.label}: input {spec.name!r} expects shape {format_shape(spec.shape)}, "
                f"got {format_shape(shape)}{_missing_batch_dimension(spec, shape)}"
            )

    def _wanted(self) -> str:
        return ", ".join(f"{spec.name!r}: {spec}" for spec in self.signature.inputs) or "no inputs"


def casts(given: np.dtype, wanted: np.dtype) -> bool:
    """Whether arrays of the one are taken for the other."""
    return wanted.kind in _NUMBERS and np.can_cast(given, wanted, "same_kind")


def _converted(value: Any, wanted: np.dtype) -> np.ndarray:
    """`value` as an array of this dtype. Raises TypeError, ValueError or ArithmeticError if a value would change."""
    array = np.asarray(value)
    if array.dtype == wanted or not array.size or wanted.kind not in _NUMBERS:
        return np.asarray(value, dtype=wanted)
    whole = array.dtype.kind in "biu" and wanted.kind in "biu"
    parsed = (
        array.dtype.kind == "U" and wanted.kind == "c"
    )  # JSON has no complex numbers: they come as "1+2j"
    if not whole and not parsed and array.dtype.kind != "O" and not casts(array.dtype, wanted):
        raise TypeError(f"it holds {'strings' if array.dtype.kind in 'SU' else array.dtype.name}")
    with np.errstate(over="raise"):
        made = array.astype(wanted)
    if wanted.kind in "biu" and not np.array_equal(made, array):
        raise OverflowError(f"{wanted.name} cannot hold all of its values")
    return made


def _out_of_list(spec: TensorSpec, inputs: Any) -> Any:
    """The array in `[array]`, a form that Keras models accept for their only input; a list of rows stays as it is."""
    if type(inputs) in (list, tuple) and len(inputs) == 1 and isinstance(inputs[0], np.ndarray):
        shape = inputs[0].shape
        if spec.accepts(shape) and not spec.accepts((1, *shape)):
            return inputs[0]
    return inputs


def _missing_batch_dimension(spec: TensorSpec, shape: tuple[int, ...]) -> str:
    if spec.shape and spec.shape[0] is None and spec.accepts((1, *shape)):
        return "; the first dimension counts rows: pass x[None] for one row"
    return ""
