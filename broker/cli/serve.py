"""`onesession serve`: the broker in the foreground."""

from __future__ import annotations

import sys

import click

from broker.cli.option_groups import OF_SETTINGS, GroupedCommand
from broker.cli.options import reported_errors, setting_option, settings_options
from broker.config.logs import log_to_stderr
from broker.config.settings import Settings
from broker.control_plane.start_lock import InheritedLock
from broker.process import main as engine
from broker.process.systemd import Service
from broker.supervision import supervise as supervisor
from worker_client.wire.address import socket_path


@click.command(cls=GroupedCommand, groups=OF_SETTINGS)
@settings_options
@setting_option("idle_seconds", show_default=False)
@click.option("--supervise", is_flag=True, help="Start the broker again when its process dies.")
@click.option("--start-lock", type=int, hidden=True)
def serve(settings: Settings, supervise: bool, start_lock: int | None) -> None:
    """Serve models until Ctrl-C or SIGTERM.

    On the first signal the broker finishes the accepted requests; a second one stops it at once. With --supervise a
    small parent process holds the address and starts the broker again when it dies; workers' calls wait meanwhile.
    Under systemd (Type=notify) it reports when it is ready and when it stops, and feeds the watchdog.
    """
    if supervise and settings.idle_seconds:
        raise click.UsageError(
            "--supervise keeps a broker running, --idle-seconds ends it: choose one of them."
        )
    if supervise:
        supervisor.begin_again_to_serve()
    service = Service.from_environment()
    log_to_stderr(settings.log_level, settings.log_format)
    lock = InheritedLock(start_lock)
    with reported_errors():
        program = supervisor if supervise else engine
        path = socket_path(settings.address)
        status = lock.serve(path, lambda: program.serve(settings, lock.release, service=service))
    sys.exit(status)
