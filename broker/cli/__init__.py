"""The command `broker`. Each subcommand has a module of its own."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import click

from broker.cli.bench import bench
from broker.cli.config import config
from broker.cli.doctor import doctor
from broker.cli.init import init
from broker.cli.ls import ls
from broker.cli.models import models
from broker.cli.node import node
from broker.cli.reload import reload
from broker.cli.run import run
from broker.cli.serve import serve
from broker.cli.stats import stats
from broker.cli.status import status
from broker.cli.top import top
from broker.cli.trace import trace
from broker.cli.try_model import try_model
from broker.cli.tune import tune
from broker.process.entry import settle
from worker_client.wire.version import __version__


class _Program(click.Group):
    def main(self, *args: Any, **kwargs: Any) -> Any:
        settle()
        return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _interrupted():
            return super().make_context(*args, **kwargs)

    def invoke(self, context: click.Context) -> Any:
        with _interrupted():
            return super().invoke(context)


@contextlib.contextmanager
def _interrupted() -> Iterator[None]:
    """Ctrl-C in the block ends the program with its status, in place of click's `Aborted!` and 1."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        raise click.exceptions.Exit(128 + signal.SIGINT) from None


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="onesession, version %(version)s")
def main() -> None:
    """One TensorFlow session for all prefork workers."""


for command in (
    *(try_model, init, serve, run, node, ls, status, stats, top, trace, models, reload, tune, bench, config),
    doctor,
):
    main.add_command(command)
