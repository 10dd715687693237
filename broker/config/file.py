"""The TOML file for a broker and its models. Its keys are the fields of Settings and ModelSpec, which check the values.

    name = "default"                  # Settings.address; the other keys at the top are fields of Settings
    poll_seconds = 5

    [models]
    faces = "models/faces"            # NAME = SOURCE, or a table of ModelSpec's fields

    [models.digits]
    source = "models/digits"          # relative paths count from the file's folder
    versions = "latest:2"
    labels = { stable = 1 }

There is no second schema: a value is valid if the dataclass accepts it, and the message is the one that Python and the
command line give, with the line number in front.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from broker.config.settings import Settings
from broker.config.toml_lines import line_of, places_of, repeated
from broker.models.spec import ModelSpec
from broker.models.unknown_name import remedy
from worker_client.wire.errors import InvalidInput

MODELS = "models"
NAME = "name"
INTERNAL = ("restarts", "suspects", "set_aside")
"""Fields of Settings that users cannot set."""
BROKER_KEYS = (
    NAME,
    *[each.name for each in fields(Settings) if each.name not in (MODELS, "address", *INTERNAL)],
)
MODEL_KEYS = tuple(each.name for each in fields(ModelSpec) if each.name != "name")
_PATHS = ("source", "warmup", "op_libraries")


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    line: int | None
    text: str

    def __str__(self) -> str:
        return self.text if self.line is None else f"line {self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Configuration:
    """The content of a file. `settings` are arguments of Settings, without models and address; `name` gives the
    address."""

    name: str | None
    settings: dict[str, Any]
    models: tuple[ModelSpec, ...]


class ConfigError(InvalidInput):
    """The error for an invalid file; the message has a line for each problem."""


def read(path: str | os.PathLike[str]) -> Configuration:
    """Read and check a file. Raises ConfigError, which lists all problems."""
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidInput(f'a configuration is the path of a file such as "broker.toml", got {path!r}')
    text = _text(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{os.fspath(path)} {_why_not_toml(text, error)}") from None
    reader = _Reader(Path(path), places_of(text))
    found = reader.read(document)
    if reader.problems:
        listed = sorted(reader.problems, key=lambda problem: problem.line or 0)
        raise ConfigError("\n".join(f"{os.fspath(path)}, {problem}" for problem in listed))
    return found


def _text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")  # Windows' editors write a byte order mark
    except OSError as error:
        raise ConfigError(f"{os.fspath(path)} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{os.fspath(path)} is not UTF-8 text: {error}") from None


def _why_not_toml(text: str, error: tomllib.TOMLDecodeError) -> str:
    twice = repeated(text)
    if twice is None:
        return f"is not valid TOML: {error}"
    path, first, second = twice
    return f"sets {'.'.join(path)} twice: {first} and {second}; keep one of them"


class _Reader:
    """Continues after a problem, so that one error lists them all."""

    def __init__(self, path: Path, places: dict[tuple[str, ...], int]) -> None:
        self.problems: list[ConfigProblem] = []
        self._folder = path.parent
        self._places = places

    def read(self, document: dict[str, Any]) -> Configuration:
        models = document.pop(MODELS, {})
        self._check_keys((), document, (*BROKER_KEYS, MODELS))
        name = document.pop(NAME, None)
        if not isinstance(name, (str, type(None))) or name == "":
            self._add((NAME,), f"{NAME} must be the broker's name or the path of its socket, got {name!r}")
            name = None
        settings = {key: value for key, value in document.items() if key in BROKER_KEYS}
        self._check_settings(settings)
        if not isinstance(models, Mapping):
            self._add((MODELS,), f"{MODELS} must be a table of models, got {models!r}; write [models.digits]")
            models = {}
        specs = [self._model(key, value) for key, value in models.items()]
        return Configuration(name, settings, tuple(spec for spec in specs if spec is not None))

    def _check_settings(self, settings: dict[str, Any]) -> None:
        if self._each_fits((), Settings, settings, {"models": ()}, ()):
            self._takes((), Settings, {"models": (), **settings}, ())

    def _model(self, name: str, value: Any) -> ModelSpec | None:
        path = (MODELS, name)
        if isinstance(value, str):
            value = {"source": value}
        if not isinstance(value, Mapping):
            self._add(path, f"model {name!r} must be a source or a table with a source, got {value!r}")
            return None
        if not self._takes(path, ModelSpec, {"source": "none"}, (name,)):
            return None  # its name is invalid, and would be reported again with each setting
        before = len(self.problems)
        self._check_keys(path, value, MODEL_KEYS)
        given = {key: self._from_here(key, each) for key, each in value.items() if key in MODEL_KEYS}
        if "source" not in given:
            self._add(path, f'model {name!r} has no source; write source = "models/{name}"')
            given["source"] = "none"
        self._each_fits(path, ModelSpec, given, {"source": "none"}, (name,))
        if len(self.problems) > before or not self._takes(path, ModelSpec, given, (name,)):
            return None
        return ModelSpec(name, **given)

    def _from_here(self, key: str, value: Any) -> Any:
        """Relative paths are relative to the file's folder."""
        if key not in _PATHS:
            return value
        if isinstance(value, list):
            return [self._from_here(key, each) for each in value]
        if not isinstance(value, str) or not value or value.startswith("~") or "://" in value:
            return value
        if key == "source" and ModelSpec("none", value).is_function:
            return value
        return os.path.normpath(self._folder / value) if self._folder != Path() else value

    def _check_keys(self, path: tuple[str, ...], table: Iterable[str], known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                what = f"model {path[-1]!r} has no setting" if path else "a broker has no setting"
                self._add((*path, key), f"{what} {key!r}; {remedy(key, known)}")

    def _each_fits(
        self,
        path: tuple[str, ...],
        kind: type,
        values: dict[str, Any],
        needed: dict[str, Any],
        arguments: tuple[Any, ...],
    ) -> bool:
        """Whether each value is valid by itself, or together with the valid ones: some limits are other settings."""
        fitting = {
            key: value for key, value in values.items() if not _wrong(kind, {**needed, key: value}, arguments)
        }
        others = {key: value for key, value in values.items() if key not in fitting}
        results = [
            self._takes((*path, key), kind, {**needed, **fitting, key: value}, arguments)
            for key, value in others.items()
        ]
        return all(results)

    def _takes(
        self, path: tuple[str, ...], kind: type, values: dict[str, Any], arguments: tuple[Any, ...]
    ) -> bool:
        wrong = _wrong(kind, values, arguments)
        if wrong:
            self._add(path, wrong)
        return not wrong

    def _add(self, path: tuple[str, ...], text: str) -> None:
        self.problems.append(ConfigProblem(line_of(self._places, path), text))


def _wrong(kind: type, values: dict[str, Any], arguments: tuple[Any, ...]) -> str:
    """Why these values make no valid object; "" if they do."""
    try:
        kind(*arguments, **values)
    except InvalidInput as error:
        return str(error)
    return ""
