"""Checks values of ModelSpec's fields as users write them, and converts them to their normal form."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any


def texts(value: Any) -> tuple[str, ...] | None:
    """A tuple of texts; a single text counts as a list of one; None for anything else."""
    if isinstance(value, str):
        return (value,) if value else None
    if not isinstance(value, Iterable) or isinstance(value, (bytes, Mapping)):
        return None
    taken = tuple(value)
    return taken if all(isinstance(each, str) and each for each in taken) else None


def batching(value: Any) -> str | None:
    """The value of `batching`: True and False mean "on" and "off"."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return value if value in ("auto", "on", "off") else None


def path(value: Any) -> str | None:
    made = os.fspath(value) if isinstance(value, os.PathLike) else value
    return made if isinstance(made, str) and made.strip() else None


def tensor_names(value: Any) -> tuple[str, ...] | None:
    """`{"x": "input:0"}`, `["x=input:0"]` or `["input:0"]` as texts `name=tensor`; None if it is none of these.

    A tensor without a given name gets the name of its operation: `scope/input:0` is `input`. Without an output number,
    it is the operation's first output.
    """
    if isinstance(value, Mapping):
        pairs = [(str(name), tensor) for name, tensor in value.items()]
    else:
        listed = texts(value)
        if listed is None:
            return None
        pairs = [_named(text) for text in listed]
    if not all(isinstance(tensor, str) and name and tensor for name, tensor in pairs):
        return None
    if len({name for name, _ in pairs}) != len(pairs):
        return None
    return tuple(f"{name}={tensor if ':' in tensor else tensor + ':0'}" for name, tensor in pairs)


def as_mapping(names: Iterable[str]) -> dict[str, str]:
    """{name: tensor} of what `tensor_names` returned."""
    return dict(_named(text) for text in names)


def _named(text: str) -> tuple[str, str]:
    name, equals, tensor = text.partition("=")
    return (name, tensor) if equals else (text.rpartition("/")[2].partition(":")[0], text)
