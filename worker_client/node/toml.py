"""Settings as lines of TOML, limited to the values that a broker's configuration can hold."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from worker_client.wire.errors import InvalidInput


def table(header: tuple[str, ...], values: Mapping[str, Any]) -> Iterator[str]:
    """The lines of one table, sorted by key. None, which means the default, is left out. Raises InvalidInput."""
    if header:
        yield f"[{'.'.join(map(_text, header))}]"
    for key, value in sorted(values.items()):
        if value is not None:
            yield f"{_text(key)} = {_value(key, value)}"


def _value(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:+}"  # +inf, -inf
    if isinstance(value, (str, os.PathLike)):
        return _text(os.fspath(value))
    if isinstance(value, (list, tuple, set, frozenset)):
        listed = sorted(value) if isinstance(value, (set, frozenset)) else value
        return f"[{', '.join(_value(key, each) for each in listed)}]"
    if isinstance(value, Mapping):
        pairs = (f"{_text(name)} = {_value(key, each)}" for name, each in sorted(value.items()))
        return f"{{{', '.join(pairs)}}}"
    raise InvalidInput(
        f"{key} of a node broker must be numbers, strings, lists and dicts, got {type(value).__name__} {value!r}"
    )


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise InvalidInput(f"a setting's name must be a string, got {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(
            f"{text!r} is not UTF-8 text, so it cannot stand in the broker's configuration"
        ) from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
