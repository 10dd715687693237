"""Options that several commands share, and what they mean in Python."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from broker.cli.model_settings import with_settings
from broker.config.file import Configuration, read
from broker.config.logs import LogFormat, LogLevel
from broker.config.settings import OneDnn, Settings, Tune
from broker.control_plane.local_brokers import address_of
from broker.models.spec import ModelSpec
from worker_client.system.surroundings import import_from_here
from worker_client.wire.address import socket_path
from worker_client.wire.errors import BrokerError, InvalidInput

Function = Callable[..., Any]


def name_option(function: Function) -> Function:
    return click.option(
        "--name",
        metavar="NAME|PATH",
        help='The broker\'s name or socket path.  [default: $BROKER_ADDRESS, else "default"]',
    )(function)


def running_option(function: Function) -> Function:
    """The broker that is asked, as `name`: where none is named, the only one that there is."""

    @functools.wraps(function)
    def called(name: str | None, **values: Any) -> Any:
        with told_errors():
            address = address_of(name)
        return function(name=address, **values)

    return click.option(
        "--name",
        metavar="NAME|PATH",
        help='The broker\'s name or socket path.  [default: $BROKER_ADDRESS, else "default", else the only one]',
    )(called)


def settings_options(function: Function) -> Function:
    """The options that make a Settings; the command gets it as `settings`."""

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
        given = {key: values.pop(key) for key in list(values) if key in _SETTINGS}
        chosen = {
            key: value
            for key, value in given.items()
            if context.get_parameter_source(key) is not ParameterSource.DEFAULT
        }
        if tune is not None:
            chosen["tune"] = (Tune.AUTO if tune else Tune.OFF).value
        with told_errors():
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


_SETTINGS = (
    *("slots", "max_slots", "max_channel_bytes", "max_total_bytes", "drain_seconds", "start_seconds"),
    *("tune_seconds", "onednn", "visible_devices", "allow_uid", "allow_gid", "poll_seconds", "region_bytes"),
    *("allow_sessions", "idle_seconds"),
    *("metrics_port", "metrics_host", "metrics_socket", "log_level", "log_format"),
)
_DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in fields(Settings) if field.name in _SETTINGS
}
# Where a command has another default than the library, which writes nothing of its own accord.
OF_COMMANDS = {"log_level": LogLevel.INFO.value}
_OPTIONS = (
    click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="A TOML file with models and settings; what is said here goes before what it says.",
    ),
    click.option(
        "--model",
        multiple=True,
        metavar="NAME=SOURCE",
        help="A SavedModel, Keras file, frozen graph or module:function to serve. May be given several times.",
    ),
    click.option(
        "--set",
        "set_",
        multiple=True,
        metavar="MODEL.SETTING=VALUE",
        help="Set something of one model, or of all (MODEL is *). May be given several times.",
    ),
    name_option,
    click.option(
        "--tune/--no-tune",
        default=None,
        help="Find each SavedModel's best settings when it is first loaded.  [default: $BROKER_TUNE, else tune]",
    ),
    click.option(
        "--tune-seconds",
        default=_DEFAULTS["tune_seconds"],
        show_default=True,
        help="How long to measure a model at most.",
    ),
    click.option(
        "--onednn",
        type=click.Choice([value.value for value in OneDnn]),
        default=_DEFAULTS["onednn"],
        show_default=True,
        help="TensorFlow's oneDNN: as measured, or fixed.",
    ),
    click.option(
        "--visible-devices",
        default=_DEFAULTS["visible_devices"],
        metavar="0,1|none",
        help="The GPUs that TensorFlow may see.  [default: all, or $CUDA_VISIBLE_DEVICES]",
    ),
    click.option(
        "--load-op-library",
        multiple=True,
        metavar="PATH",
        help="A shared library with ops that the models need. May be given several times.",
    ),
    click.option(
        "--poll-seconds",
        default=_DEFAULTS["poll_seconds"],
        show_default=True,
        help="How often to look for new versions of models on disk; 0 for never, see `onesession reload`.",
    ),
    click.option(
        "--slots",
        default=_DEFAULTS["slots"],
        show_default=True,
        help="Requests a worker can have in flight at first.",
    ),
    click.option("--max-slots", default=_DEFAULTS["max_slots"], show_default=True, help="And at most."),
    click.option(
        "--region-bytes",
        default=_DEFAULTS["region_bytes"],
        show_default=True,
        help="Shared memory for the inputs, and for the outputs, of a request at first; grows by itself.",
    ),
    click.option(
        "--max-channel-bytes",
        default=_DEFAULTS["max_channel_bytes"],
        show_default=True,
        help="Shared memory one worker may use.",
    ),
    click.option(
        "--max-total-bytes",
        default=_DEFAULTS["max_total_bytes"],
        show_default=True,
        help="Shared memory all workers may use.",
    ),
    click.option(
        "--drain-seconds",
        default=_DEFAULTS["drain_seconds"],
        show_default=True,
        help="How long accepted requests may still run when the broker is stopped.",
    ),
    click.option(
        "--start-seconds",
        default=_DEFAULTS["start_seconds"],
        show_default=True,
        help="How long a start may take, and the load of a version later; 0 for no limit.",
    ),
    click.option(
        "--metrics-port",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Offer /metrics, /livez and /readyz over HTTP at this port. 0: any that is free.",
    ),
    click.option(
        "--metrics-host",
        default=_DEFAULTS["metrics_host"],
        show_default=True,
        help="The address that the port is of.  0.0.0.0: all of this machine's.",
    ),
    click.option(
        "--metrics-socket",
        metavar="PATH",
        help="Offer them at this Unix socket, for the broker's own user.",
    ),
    click.option(
        "--log-level",
        type=click.Choice([value.value for value in LogLevel]),
        default=OF_COMMANDS["log_level"],
        show_default=True,
        help="What is written to stderr at least.",
    ),
    click.option(
        "--log-format",
        type=click.Choice([value.value for value in LogFormat]),
        default=_DEFAULTS["log_format"],
        show_default=True,
        help="json: an object a line, for programs.",
    ),
    click.option(
        "--allow-uid",
        type=int,
        multiple=True,
        metavar="NUMBER",
        help="A user whose workers may attach, too (the broker runs as root). May be given several times.",
    ),
    click.option(
        "--allow-gid", type=int, multiple=True, metavar="NUMBER", help="A group whose users' workers may."
    ),
    click.option(
        "--allow-sessions",
        is_flag=True,
        help="Let their workers run any tensors of the models' graphs, too (client.session).",
    ),
)


IMPOSSIBLE = 2
"""The exit status where another start is of no use: as for an option that does not exist."""


class Told(click.ClickException):
    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]


@contextlib.contextmanager
def told_errors() -> Iterator[None]:
    """Turns BrokerError into one line on the console and exit status 1; InvalidInput, as any mistake in the use of a
    command, into 2."""
    try:
        yield
    except InvalidInput as error:
        raise Told(str(error), IMPOSSIBLE) from None
    except BrokerError as error:
        raise click.ClickException(str(error)) from None
