"""A configuration as TOML with every setting in it; defaults are marked as such."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import tomlkit
from tomlkit.items import Item, Table

from broker.config.file import BROKER_KEYS, MODEL_KEYS, MODELS, NAME, Configuration
from broker.config.settings import Settings
from broker.models.setting_field import default_of
from broker.models.spec import ModelSpec

_DEFAULT = "default"
_NAME_DEFAULT = "$BROKER_ADDRESS, else default"


def shown(configuration: Configuration, others: Mapping[str, Any] | None = None) -> str:
    """The equivalent file with all defaults filled in. A value that TOML cannot express (None) becomes a comment.

    `others` are defaults of this broker that differ from those of Settings.
    """
    document = tomlkit.document()
    others = others or {}
    settings = Settings(models=configuration.models, **{**others, **configuration.settings})
    if configuration.name is None:
        document.add(tomlkit.comment(f'{NAME} = ""  # {_NAME_DEFAULT}'))
    else:
        document[NAME] = configuration.name
    defaults = {**_defaults(Settings), **others}
    for key in BROKER_KEYS:
        if key != NAME:
            _put(document, key, getattr(settings, key), defaults[key])
    document[MODELS] = tomlkit.table(is_super_table=True)
    for spec in configuration.models:
        document[MODELS][spec.name] = _model(spec)
    return tomlkit.dumps(document)


def plain(value: Any) -> Any:
    """The value in a form that TOML can express."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def _model(spec: ModelSpec) -> Table:
    table = tomlkit.table()
    defaults = _defaults(ModelSpec)
    for key in MODEL_KEYS:
        _put(table, key, getattr(spec, key), defaults.get(key))
    return table


def _put(table: Any, key: str, value: Any, default: Any) -> None:
    if value is None:
        table.add(tomlkit.comment(f"{key} is not set"))
        return
    item = _item(value)
    if value == default:
        item.comment(_DEFAULT)
    table.add(key, item)


def _item(value: Any) -> Item:
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        inline.update(plain(value))
        return inline
    made: Item = tomlkit.item(plain(value))
    return made


def _defaults(kind: type) -> dict[str, Any]:
    return {each.name: default_of(each) for each in fields(kind)}
