"""Which model to serve and how: what a user writes on the command line, in the configuration or in Python."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from worker_client.wire.errors import InvalidInput

DEFAULT_MAX_BATCH_SIZE = 64

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model to serve.

    `source` is the path of a SavedModel directory, or `module:function` for a Python callable (write a
    relative path with a colon in it as `./odd:name`). `max_batch_size` counts rows and bounds what the broker
    joins, not what one request may carry. `intra_op_threads` None leaves the choice to the broker. `tags`
    select the MetaGraph inside a SavedModel. Raises InvalidInput, which names the field and what it takes.
    """

    name: str
    source: str
    max_batch_size: int = DEFAULT_MAX_BATCH_SIZE
    batching: bool = True
    intra_op_threads: int | None = None
    tags: tuple[str, ...] = ("serve",)

    def __post_init__(self) -> None:
        _check_name(self.name)
        object.__setattr__(self, "source", _source(self.name, self.source))
        _check_count(self.name, "max_batch_size", self.max_batch_size)
        if not isinstance(self.batching, bool):
            raise _wrong(self.name, "batching", self.batching, "True or False")
        if self.intra_op_threads is not None:
            _check_count(self.name, "intra_op_threads", self.intra_op_threads)
        object.__setattr__(self, "tags", _tags(self.name, self.tags))

    @property
    def is_function(self) -> bool:
        """True if `source` reads as `module:function`, whatever lies on disk."""
        return _FUNCTION.fullmatch(self.source) is not None

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """The model in `name=source`, as `--model` takes it: `digits=models/digits`."""
        name, separator, source = text.partition("=")
        if not separator or not name or not source:
            raise InvalidInput(
                f"model {text!r} is not of the form NAME=SOURCE; write --model digits=models/digits for a "
                "SavedModel directory, or --model digits=package.module:function for a Python callable"
            )
        return cls(name, source)

    @classmethod
    def coerce(cls, name: str, value: Any) -> ModelSpec:
        """The model of `{name: value}`; value is a path, a source, a ModelSpec, or a dict of its fields."""
        if isinstance(value, ModelSpec):
            return replace(value, name=name)
        if isinstance(value, (str, os.PathLike)):
            return cls(name, os.fspath(value))
        if isinstance(value, Mapping):
            return _from_mapping(name, value)
        raise InvalidInput(
            f"model {name!r}: expected a path, 'module:function', a dict with a 'source' or a ModelSpec, "
            f"got {type(value).__name__} {value!r}"
        )

    @classmethod
    def coerce_all(cls, models: Mapping[str, Any] | Iterable[ModelSpec]) -> list[ModelSpec]:
        """The models of `Broker(models=...)`, in their order. Raises InvalidInput if two share a name."""
        if isinstance(models, Mapping):
            return [cls.coerce(name, value) for name, value in models.items()]
        specs = list(models)
        check_distinct(specs)
        return specs


def check_distinct(specs: Iterable[ModelSpec]) -> None:
    """Raises InvalidInput if two models share a name."""
    seen: dict[str, ModelSpec] = {}
    for spec in specs:
        other = seen.setdefault(spec.name, spec)
        if other is not spec:
            raise InvalidInput(
                f"two models are called {spec.name!r} ({other.source!r} and {spec.source!r}); "
                "give each a name of its own"
            )


def _from_mapping(name: str, value: Mapping[str, Any]) -> ModelSpec:
    known = [field.name for field in fields(ModelSpec) if field.name != "name"]
    unknown = [key for key in value if key not in known]
    if unknown:
        shown = ", ".join(repr(key) for key in unknown)
        raise InvalidInput(f"model {name!r} has no setting {shown}; the settings are {', '.join(known)}")
    if "source" not in value:
        raise InvalidInput(
            f"model {name!r} has no 'source'; give the path of a SavedModel directory or 'module:function'"
        )
    return ModelSpec(name, **value)


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"{name!r} is no model name; use letters, digits, '_', '-' and '.', not starting with '-' or '.'"
        )


def _source(name: str, source: Any) -> str:
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if not isinstance(source, str) or not source.strip():
        raise _wrong(name, "source", source, "the path of a SavedModel directory or 'module:function'")
    return source


def _check_count(name: str, setting: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(name, setting, value, "a whole number of at least 1")


def _tags(name: str, tags: Any) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise _wrong(name, "tags", tags, "a list of tags such as ('serve',)")
    taken = tuple(tags)
    if not all(isinstance(tag, str) for tag in taken):
        raise _wrong(name, "tags", tags, "a list of tags such as ('serve',)")
    return taken


def _wrong(name: str, setting: str, value: Any, expected: str) -> InvalidInput:
    return InvalidInput(f"model {name!r}: {setting} must be {expected}, got {value!r}")
