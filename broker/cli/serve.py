"""`broker serve`: the broker in the foreground."""

from __future__ import annotations

import logging
import sys

import click

from broker import engine, supervisor
from broker.cli.options import IMPOSSIBLE, settings_options, told_errors
from broker.logs import LogFormat, log_to_stderr, say
from broker.settings import Settings
from broker.systemd import Service

_log = logging.getLogger("onesession.serve")


@click.command()
@settings_options
@click.option("--supervise", is_flag=True, help="Start the broker again when its process dies.")
def serve(settings: Settings, supervise: bool) -> None:
    """Serve models until Ctrl-C or SIGTERM.

    The first signal finishes the accepted requests, a second one stops at once. With --supervise a small parent process
    holds the address and starts the broker again when it dies; workers' calls wait for it meanwhile. Under systemd
    (Type=notify) it says when it is ready and stops, and keeps its watchdog.
    """
    if supervise:
        supervisor.begin_again_to_serve()
    service = Service.from_environment()
    log_to_stderr(settings.log_level, settings.log_format)
    names = ", ".join(spec.name for spec in settings.models)
    _say(settings, f"loading {names} ...")
    with told_errors(IMPOSSIBLE):
        status = (supervisor if supervise else engine).serve(
            settings,
            lambda: _say(settings, f"serving {names} at {settings.address}"),
            service=service,
        )
    sys.exit(status)


def _say(settings: Settings, text: str) -> None:
    """To people, or where programs read along as an event like all others."""
    if settings.log_format == LogFormat.TEXT.value:
        say(text)
    else:
        _log.info(text)
