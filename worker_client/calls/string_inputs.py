"""Inputs that contain strings: they are encoded before a slot is claimed, because only then is the required size known.

Strings that an app writes in place, `request["text"][...]`, cannot be in shared memory. The app writes them into an
array of objects of its own, which each run encodes into the slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from worker_client.attachment.metadata import SignatureInfo
from worker_client.attachment.slot import Slot
from worker_client.calls.inputs import InputValidator
from worker_client.wire.dtypes import STRING, name_of
from worker_client.wire.errors import InvalidInput
from worker_client.wire.layout import size_class
from worker_client.wire.signature import TensorSpec
from worker_client.wire.strings import Strings, StringView, blank, encode, place_behind
from worker_client.wire.tensors import TensorLayout


def validator_of(model: str, version: int, info: SignatureInfo, strict: bool) -> InputValidator:
    kind = StringInputValidator if info.signature.takes_strings else InputValidator
    return kind(model, version, info, strict)


class StringInputValidator(InputValidator):
    """Returns layouts that are as large as the strings need, rounded up so that there are few different ones."""

    __slots__ = ()

    strings = True

    def prepare(self, inputs: Any) -> tuple[tuple[Any, ...], TensorLayout]:
        if isinstance(inputs, np.ndarray) and len(self.names) == 1:
            inputs = {self.names[0]: inputs}
        tensors, layout = super().prepare(inputs)
        return tensors, self._sized(layout, place_behind(layout.nbytes, tensors))

    def _sized(self, layout: TensorLayout, nbytes: int) -> TensorLayout:
        key = layout, size_class(nbytes)
        sized = self._layouts.get(key)
        if sized is None:
            sized = self._layouts[key] = TensorLayout(layout.table, layout.placements, key[1])
        return sized

    def _as_array(self, spec: TensorSpec, value: Any) -> Any:
        if spec.dtype != STRING:
            return super()._as_array(spec, value)
        if isinstance(value, StringView):  # inputs that were sent before and are sent again
            value = value.read()
        try:
            array = np.asarray(value) if isinstance(value, np.ndarray) else np.asarray(value, object)
            if array.dtype.kind not in "OSUT":
                raise TypeError(f"its dtype is {name_of(array.dtype)}")
            return encode(array)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"{self.label}: input {spec.name!r} expects {spec}, bytes or str; the {type(value).__name__} given "
                f"cannot be converted: {error}"
            ) from None


def in_place(views: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays that an app writes into: the views, and an array of empty strings in place of each StringView."""
    return {name: blank(view.shape) if isinstance(view, StringView) else view for name, view in views.items()}


def has_views(inputs: Mapping[str, np.ndarray]) -> bool:
    """Whether any array that an app writes into is in a slot's memory."""
    return any(array.dtype != STRING for array in inputs.values())


def write(slot: Slot, tensors: Sequence[Any], layout: TensorLayout, *, moved: bool) -> None:
    """Fill a slot: write the strings and, if the arrays were written into another slot, the arrays as well."""
    for view, tensor in zip(slot.input.write_layout(layout), tensors):
        if moved or isinstance(tensor, Strings):
            view[...] = tensor
