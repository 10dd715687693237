"""`--set MODEL.SETTING=VALUE`: one setting of one model on the command line, or of all with `*` for MODEL."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from broker.models.spec import ModelSpec
from broker.models.unknown_name import remedy
from worker_client.wire.errors import InvalidInput

ALL = "*"
SETTINGS = tuple(field.name for field in fields(ModelSpec) if field.name not in ("name", "source"))
_BARE_WORD = re.compile(r"[A-Za-z_][\w./:\-]*")
_EXAMPLE = "write --set digits.max_batch_size=32, or --set '*.max_delay=0.002' for all models"


def with_settings(specs: Sequence[ModelSpec], texts: Iterable[str]) -> list[ModelSpec]:
    """The models with the settings in `texts`; a setting of one model overrides a setting of all.

    Raises InvalidInput, which quotes the text and the error.
    """
    names = [spec.name for spec in specs]
    said: dict[str, dict[str, Any]] = {name: {} for name in (ALL, *names)}
    for text in texts:
        model, setting, value = _parse(text)
        if model not in said:
            raise InvalidInput(f"--set {text}: there is no model {model!r}; there is {', '.join(names)}")
        said[model][setting] = value
    return [_changed(spec, {**said[ALL], **said[spec.name]}) for spec in specs]


def _changed(spec: ModelSpec, values: dict[str, Any]) -> ModelSpec:
    if not values:
        return spec
    now = {field.name: getattr(spec, field.name) for field in fields(ModelSpec) if field.name != "name"}
    return ModelSpec.coerce(spec.name, {**now, **values})


def _parse(text: str) -> tuple[str, str, Any]:
    left, equals, value = text.partition("=")
    # A model's name may contain dots, a setting's name does not.
    model, dot, setting = left.strip().rpartition(".")
    if not (equals and dot and model and setting):
        raise InvalidInput(f"--set {text}: that is not MODEL.SETTING=VALUE; {_EXAMPLE}")
    if setting not in SETTINGS:
        raise InvalidInput(f"--set {text}: there is no setting {setting!r}; {remedy(setting, SETTINGS)}")
    return model, setting, _value(text, value.strip())


def _value(text: str, value: str) -> Any:
    """A TOML value. A word needs no quotes: the shell would have removed them."""
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError as error:
        if _BARE_WORD.fullmatch(value):
            return value
        raise InvalidInput(
            f"--set {text}: {value!r} is not a TOML value ({error}); "
            'write a number, true, false, "text", a list such as [1, 8, 32] or a table such as {stable = 1}'
        ) from None
    if set(parsed) != {"value"}:
        raise InvalidInput(f"--set {text}: expected one value, got {value!r}")
    return parsed["value"]
