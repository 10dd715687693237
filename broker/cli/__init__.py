"""The command `broker`. Each subcommand has a module of its own."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.bench import bench
from broker.cli.config import config
from broker.cli.doctor import doctor
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
from broker.cli.tune import tune
from broker.process.entry import settle
from worker_client.wire.version import __version__

_INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""


class _Program(click.Group):
    def main(self, *args: Any, **kwargs: Any) -> Any:
        settle()
        return super().main(*args, **kwargs)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (KeyboardInterrupt, click.Abort):
            click.echo(err=True)
            context.exit(_INTERRUPTED)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="onesession, version %(version)s")
def main() -> None:
    """One TensorFlow session for all prefork workers."""


for command in (serve, run, node, ls, status, stats, top, trace, models, reload, tune, bench, config, doctor):
    main.add_command(command)
