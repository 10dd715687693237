"""Options that several commands share, and what they mean in Python."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import click

from broker.cli.model_settings import with_settings
from broker.models.spec import ModelSpec
from broker.settings import OneDnn, Settings, Tune
from worker_client.wire.address import socket_path
from worker_client.wire.errors import BrokerError

Function = Callable[..., Any]


def name_option(function: Function) -> Function:
    return click.option(
        "--name",
        metavar="NAME|PATH",
        help='The broker\'s name or socket path.  [default: $BROKER_ADDRESS, else "default"]',
    )(function)


def settings_options(function: Function) -> Function:
    """The options that make a Settings; the command gets it as `settings`."""

    @functools.wraps(function)
    def called(
        model: tuple[str, ...], name: str | None, set_: tuple[str, ...], tune: bool | None, **values: Any
    ) -> Any:
        sys.path.insert(0, os.getcwd())  # a model may be a module:function of the project we stand in
        chosen = {key: values.pop(key) for key in list(values) if key in _SETTINGS}
        if tune is not None:
            chosen["tune"] = (Tune.AUTO if tune else Tune.OFF).value
        with told_errors():
            specs = ModelSpec.coerce_all([ModelSpec.parse(text) for text in model])
            models = tuple(with_settings(specs, set_))
            settings = Settings(models=models, address=os.fspath(socket_path(name)), **chosen)
        return function(settings=settings, **values)

    with_options: Function = called
    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options


_SETTINGS = (
    *("slots", "max_slots", "max_channel_bytes", "max_total_bytes", "drain_seconds"),
    *("tune_seconds", "onednn", "allow_uid", "allow_gid"),
)
_DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in fields(Settings) if field.name in _SETTINGS
}
_OPTIONS = (
    click.option(
        "--model",
        multiple=True,
        required=True,
        metavar="NAME=SOURCE",
        help="A SavedModel directory or module:function to serve. May be given several times.",
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
        "--slots",
        default=_DEFAULTS["slots"],
        show_default=True,
        help="Requests a worker can have in flight at first.",
    ),
    click.option("--max-slots", default=_DEFAULTS["max_slots"], show_default=True, help="And at most."),
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
        "--allow-uid",
        type=int,
        multiple=True,
        metavar="NUMBER",
        help="A user whose workers may attach, too (the broker runs as root). May be given several times.",
    ),
    click.option(
        "--allow-gid", type=int, multiple=True, metavar="NUMBER", help="A group whose users' workers may."
    ),
)


@contextlib.contextmanager
def told_errors() -> Iterator[None]:
    """Turns BrokerError into one line on the console and exit status 1."""
    try:
        yield
    except BrokerError as error:
        raise click.ClickException(str(error)) from None
