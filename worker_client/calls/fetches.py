"""The fetches of `Session.run`: any nesting of tensor names, flattened for the wire and rebuilt afterwards.

Follows tensorflow/python/client/session.py, `_FetchMapper`: strings and objects with a name stand for tensors and
operations; lists, tuples, namedtuples, dicts and attrs classes nest them; the answer has the same form, with None for
operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worker_client.wire.errors import InvalidInput

Build = Callable[[Sequence[Any]], Any]


class WrongType(InvalidInput, TypeError):
    """Invalid input for which TensorFlow raises TypeError."""


def graph_name(element: Any) -> str | None:
    """The name of a tensor or operation given as a string or as an object with a name; None for anything else."""
    if isinstance(element, str):
        return element
    name = getattr(element, "name", None)
    return name if isinstance(name, str) else None


def flatten(fetches: Any) -> tuple[tuple[str, ...], Build]:
    """Each name in `fetches`, and a function that builds the answer from their values. Raises WrongType."""
    names: dict[str, int] = {}
    build = _visit(fetches, names)
    return tuple(names), build


def _visit(fetch: Any, names: dict[str, int]) -> Build:
    if isinstance(fetch, (list, tuple)):  # before names: a namedtuple may have a field `name`
        return _sequence(fetch, names)
    if isinstance(fetch, Mapping):
        return _mapping(fetch, names)
    if hasattr(type(fetch), "__attrs_attrs__"):
        fields = [field.name for field in type(fetch).__attrs_attrs__]
        parts = [_visit(getattr(fetch, field), names) for field in fields]
        return lambda values: type(fetch)(*[part(values) for part in parts])
    name = graph_name(fetch)
    if name is not None:
        index = names.setdefault(name, len(names))
        return lambda values: values[index]
    raise WrongType(
        f"Argument `fetch` = {fetch} has invalid type {type(fetch).__name__!r}. Must be a string or Tensor."
    )


def _mapping(fetch: Mapping[Any, Any], names: dict[str, int]) -> Build:
    parts = {key: _visit(value, names) for key, value in fetch.items()}
    kind: Any = type(fetch)

    def build(values: Sequence[Any]) -> Any:
        built = {key: part(values) for key, part in parts.items()}
        factory = getattr(fetch, "default_factory", None)
        return kind(built) if factory is None else kind(factory, built)

    return build


def _sequence(fetch: list[Any] | tuple[Any, ...], names: dict[str, int]) -> Build:
    parts = [_visit(value, names) for value in fetch]
    kind: Any = type(fetch)
    if hasattr(kind, "_fields"):  # a namedtuple
        return lambda values: kind(*[part(values) for part in parts])
    return lambda values: kind([part(values) for part in parts])
