"""The lines of Python that call one signature of a model, with its names, dtypes and shapes."""

from __future__ import annotations

import json
from collections.abc import Iterator

from worker_client.wire.dtypes import STRING, name_of
from worker_client.wire.signature import Signature, TensorSpec


def literal(name: str) -> str:
    """A Python literal, in the quotes that formatters want."""
    return json.dumps(name, ensure_ascii=not name.isprintable())


def needed(signature: Signature) -> list[TensorSpec]:
    """The inputs that a call needs."""
    return [spec for spec in signature.inputs if spec.default is None]


def optional(signature: Signature) -> Iterator[str]:
    """A comment for each input that a call may leave out."""
    for spec in signature.inputs:
        if spec.default is not None:
            yield f"# may be sent as well: {literal(spec.name)}, {spec}"


def selected(model: str, signature: Signature, is_default: bool) -> str:
    """What `client.model()` is called with."""
    return literal(model) + ("" if is_default else f", signature={literal(signature.name)}")


def python_call(
    address: str, model: str, signature: Signature, is_default: bool, version: int | None = None
) -> str:
    """A whole program: it connects, calls the signature with made-up data, and says what comes back. `version` is one
    that is not called unless it is named."""
    inputs = needed(signature)
    imports = ["import numpy as np"] if any("np." in _example(spec) for spec in inputs) else []
    what = selected(model, signature, is_default) + ("" if version is None else f", version={version}")
    lines = [
        *imports,
        "import worker_client",
        "",
        f"client = worker_client.connect({literal(address) if address != 'default' else ''})",
        f"model = client.model({what})",
        *optional(signature),
        *_call(inputs),
        *(f"answer[{literal(spec.name)}]  # {spec}" for spec in signature.outputs),
    ]
    return "\n".join(lines)


def _call(inputs: list[TensorSpec]) -> Iterator[str]:
    if not inputs:
        yield "answer = model.predict({})"
        return
    yield "answer = model.predict({"
    for spec in inputs:
        yield f"    {literal(spec.name)}: {_example(spec)},  # {spec}"
    yield "})"


def _example(spec: TensorSpec) -> str:
    """Made-up data of the smallest shape that fits. What numpy has no dtype for goes as a list."""
    shape = _sizes(spec)
    if spec.dtype == STRING:
        return f'np.full({shape}, "text")'
    if spec.dtype.isbuiltin != 1:  # of ml_dtypes
        return f"np.zeros({shape}, int).tolist()"
    return f'np.zeros({shape}, "{name_of(spec.dtype)}")'


def _sizes(spec: TensorSpec) -> tuple[int, ...]:
    """With 1 for each free dimension, and for the rank if that is free."""
    return tuple(1 if size is None else size for size in ((None,) if spec.shape is None else spec.shape))
