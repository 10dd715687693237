"""`broker serve`: the broker in the foreground."""

from __future__ import annotations

import sys

import click

from broker import engine, supervisor
from broker.cli.options import settings_options, told_errors
from broker.settings import Settings
from broker.systemd import Service


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
    engine.log_to_stderr()
    names = ", ".join(spec.name for spec in settings.models)
    click.echo(f"loading {names} ...", err=True)
    with told_errors():
        status = (supervisor if supervise else engine).serve(
            settings,
            lambda: click.echo(f"serving {names} at {settings.address}", err=True),
            service=service,
        )
    sys.exit(status)
