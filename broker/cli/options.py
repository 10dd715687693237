"""Options that several commands share, and their values in Python."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from broker.cli.completion import BrokerName
from broker.cli.model_settings import with_settings
from broker.config.file import Configuration, read
from broker.config.logs import LogLevel
from broker.config.settings import Settings, Tune
from broker.control_plane.local_brokers import address_of
from broker.models.setting_field import ChoiceCheck, IntegerCheck
from broker.models.spec import ModelSpec
from worker_client.interpreter.surroundings import import_from_here
from worker_client.wire.address import socket_path
from worker_client.wire.errors import BrokerError, InvalidInput

Function = Callable[..., Any]


def name_option(function: Function) -> Function:
    return click.option(
        "--name",
        type=BrokerName(),
        metavar="NAME|PATH",
        help='The broker\'s name or socket path.  [default: $BROKER_ADDRESS, else "default"]',
    )(function)


def running_option(function: Function) -> Function:
    """The broker to query, as `name`: the only running one if none is named."""

    @functools.wraps(function)
    def called(name: str | None, **values: Any) -> Any:
        with reported_errors():
            address = address_of(name)
        return function(name=address, **values)

    return click.option(
        "--name",
        type=BrokerName(),
        metavar="NAME|PATH",
        help='The broker\'s name or socket path.  [default: $BROKER_ADDRESS, else "default", else the only one]',
    )(called)


def settings_options(function: Function) -> Function:
    """The options for Settings, which the command gets as `settings`."""

    @functools.wraps(function)
    def called(
        config: Path | None,
        model: tuple[str, ...],
        name: str | None,
        set_: tuple[str, ...],
        tune: bool | None,
        load_op_library: tuple[str, ...],
        **values: Any,
    ) -> Any:
        import_from_here()
        context = click.get_current_context()
        given = {key: values.pop(key) for key in list(values) if key in _FIELDS}
        chosen = {
            key: value
            for key, value in given.items()
            if context.get_parameter_source(key) is not ParameterSource.DEFAULT
        }
        if tune is not None:
            chosen["tune"] = (Tune.AUTO if tune else Tune.OFF).value
        with reported_errors():
            file = Configuration(None, {}, ()) if config is None else read(config)
            specs = {spec.name: spec for spec in file.models}
            specs.update({s.name: s for s in ModelSpec.coerce_all([ModelSpec.parse(text) for text in model])})
            if not specs:
                raise click.UsageError("Missing option '--model', or '--config' with a file that has models.")
            address = os.fspath(socket_path(file.name if name is None else name))
            settings = Settings(
                models=tuple(_with_libraries(with_settings([*specs.values()], set_), load_op_library)),
                address=address,
                **{**OF_COMMANDS, **file.settings, **chosen},
            )
        return function(settings=settings, **values)

    with_options: Function = called
    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options


def _with_libraries(specs: list[ModelSpec], paths: tuple[str, ...]) -> list[ModelSpec]:
    return [replace(spec, op_libraries=(*spec.op_libraries, *paths)) for spec in specs]


def setting_option(name: str, *spelled: str, **others: Any) -> Function:
    """The option of a field of Settings, by the field's metadata; `spelled` and `others` override it for this
    command."""
    about = _FIELDS[name].metadata
    check: Any = about["check"]
    default = OF_COMMANDS.get(name, _FIELDS[name].default)
    kind: dict[str, Any] = {}
    if about["option"]:  # a switch: the command interprets it
        default = None
    elif isinstance(check, ChoiceCheck):
        kind = {"type": click.Choice(check.values)}
    elif isinstance(check, IntegerCheck) and default is None:
        kind = {"type": click.IntRange(int(check.least), check.most)}
    elif isinstance(default, bool):
        kind = {"is_flag": True}
    elif default == ():
        kind = {"type": int, "multiple": True}
    words = spelled or (about["option"] or f"--{name.replace('_', '-')}",)
    said = {"default": default, "show_default": True, "help": about["doc"], "metavar": about["metavar"]}
    return click.option(*words, **{**said, **kind, **others})


_FIELDS: dict[str, Field[Any]] = {
    field.name: field for field in fields(Settings) if field.metadata.get("doc")
}
OF_COMMANDS = {"log_level": LogLevel.INFO.value}
"""Defaults of the commands that differ from those of the library, which does not configure logging."""
_OF_SERVE = "idle_seconds"
_OPTIONS: tuple[Function, ...] = (
    click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="A TOML file with models and settings; options on the command line override it.",
    ),
    click.option(
        "--model",
        multiple=True,
        metavar="NAME=SOURCE",
        help="A SavedModel, Keras, frozen graph or .tflite file, or module:function. May be given several times.",
    ),
    click.option(
        "--set",
        "set_",
        multiple=True,
        metavar="MODEL.SETTING=VALUE",
        help="Set one setting of a model, or of all models (MODEL is *). May be given several times.",
    ),
    name_option,
    click.option(
        "--load-op-library",
        multiple=True,
        metavar="PATH",
        help="A shared library with ops that the models need. May be given several times.",
    ),
    *[setting_option(name) for name in _FIELDS if name != _OF_SERVE],
)


IMPOSSIBLE = 2
"""The exit status when another start cannot help; click uses the same for an unknown option."""


class CommandError(click.ClickException):
    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]


@contextlib.contextmanager
def reported_errors() -> Iterator[None]:
    """Turns BrokerError into one line on the console and exit status 1; InvalidInput into 2, the status of any usage
    error."""
    try:
        yield
    except InvalidInput as error:
        raise CommandError(str(error), IMPOSSIBLE) from None
    except BrokerError as error:
        raise click.ClickException(str(error)) from None
