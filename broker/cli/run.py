"""`onesession run`: the broker as the parent of a prefork server."""

from __future__ import annotations

import os
import shutil
import sys

import click

from broker.cli.option_groups import OF_SETTINGS, GroupedCommand
from broker.cli.options import CommandError, reported_errors, settings_options
from broker.config.logs import log_to_stderr
from broker.config.settings import Settings
from broker.supervision import supervise as supervisor


@click.command(cls=GroupedCommand, groups=OF_SETTINGS, context_settings={"ignore_unknown_options": True})
@settings_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(settings: Settings, command: tuple[str, ...]) -> None:
    """Start a broker, then COMMAND with $BROKER_ADDRESS set; stop the broker when COMMAND ends.

    If the broker dies, it is started again, and workers' calls wait for it. Signals are passed on to COMMAND, whose
    exit status is returned. Example:

        onesession run --model digits=models/digits -- gunicorn -w 8 app:app
    """
    _check_command(command[0])
    supervisor.begin_again_to_run()
    log_to_stderr(settings.log_level, settings.log_format)
    with reported_errors():
        status = supervisor.run(settings, command)
    sys.exit(status)


def _check_command(name: str) -> None:
    """Checked before models are loaded. The exit statuses are those of env, timeout and docker."""
    if name.startswith("-"):
        raise click.NoSuchOption(name, ctx=click.get_current_context())
    if shutil.which(name) is None:
        if os.path.exists(name):
            raise CommandError(f"cannot run {name!r}: it is not a program", 126)
        raise CommandError(f"cannot run {name!r}: there is no such command", 127)
