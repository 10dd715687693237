"""The inputs and outputs of a model: names, dtypes and shapes, as the broker sends them to its workers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker_client.wire.default import Default
from worker_client.wire.dtypes import STRING, dtype_named, name_of

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. `shape` is None where the rank is unknown; a dimension is None where it is free.

    `component` names the tensor that it is a part of, such as "row_splits of ragged 'words'"; it is empty for an
    independent tensor. The rows of a component are not those of a request. An input with a `default` may be left out of
    a call.
    """

    name: str
    dtype: np.dtype
    shape: Shape | None
    component: str = ""
    default: Default | None = None

    def accepts(self, shape: tuple[int, ...]) -> bool:
        if self.shape is None:
            return True
        if len(shape) != len(self.shape):
            return False
        return all(want is None or want == have for want, have in zip(self.shape, shape))

    def with_rows(self, rows: int | None) -> tuple[int, ...] | None:
        """The concrete shape for `rows` rows, or None where another dimension is free."""
        if self.shape is None:
            return None
        shape = self.shape
        if shape and shape[0] is None and rows is not None:
            shape = (rows, *shape[1:])
        return None if None in shape else tuple(n for n in shape if n is not None)

    def __str__(self) -> str:
        text = f"{name_of(self.dtype)}{format_shape(self.shape)}"
        text = f"{text} ({self.component})" if self.component else text
        return text if self.default is None else f"{text} = {self.default.show(self.dtype)}"


def format_shape(shape: Shape | None) -> str:
    """`[?, 128]` for (None, 128); `[...]` for an unknown rank."""
    if shape is None:
        return "[...]"
    return "[" + ", ".join("?" if n is None else str(n) for n in shape) + "]"


@dataclass(frozen=True, slots=True)
class Signature:
    """One callable of a model; inputs and outputs are in the order in which the wire carries them."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def batchable(self) -> bool:
        """True if every tensor's first dimension is free, and counts rows: requests can then be joined along it."""
        return self._have_rows(self.inputs)

    def batchable_along(self, names: Collection[str]) -> bool:
        """Like `batchable`, for these inputs, while the others are left out and have their defaults."""
        return self._have_rows(tuple(spec for spec in self.inputs if spec.name in names))

    def _have_rows(self, inputs: tuple[TensorSpec, ...]) -> bool:
        return bool(inputs) and all(
            spec.shape and spec.shape[0] is None and not spec.component for spec in (*inputs, *self.outputs)
        )

    @property
    def takes_strings(self) -> bool:
        return any(spec.dtype == STRING for spec in self.inputs)

    @property
    def gives_strings(self) -> bool:
        return any(spec.dtype == STRING for spec in self.outputs)

    def __str__(self) -> str:
        def side(specs: tuple[TensorSpec, ...]) -> str:
            return ", ".join(f"{spec.name}: {spec}" for spec in specs)

        return f"{self.name}({side(self.inputs)}) -> ({side(self.outputs)})"

    def to_message(self) -> dict[str, Any]:
        """This signature as plain values for the control plane."""

        def side(specs: tuple[TensorSpec, ...]) -> list[Any]:
            return [
                [
                    spec.name,
                    name_of(spec.dtype),
                    None if spec.shape is None else list(spec.shape),
                    spec.component,
                    None if spec.default is None else spec.default.to_message(),
                ]
                for spec in specs
            ]

        return {"name": self.name, "inputs": side(self.inputs), "outputs": side(self.outputs)}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Signature:
        def side(rows: list[Any]) -> tuple[TensorSpec, ...]:
            return tuple(
                TensorSpec(
                    name,
                    dtype_named(dtype),
                    None if shape is None else tuple(shape),
                    component,
                    None if default is None else Default.from_message(default),
                )
                for name, dtype, shape, component, default in rows
            )

        return cls(message["name"], side(message["inputs"]), side(message["outputs"]))


def label_of(model: str, version: int, signature: str) -> str:
    """The beginning of messages about a request."""
    return f"model {model!r} version {version}, signature {signature!r}"
