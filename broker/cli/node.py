"""`onesession node`: this node's broker for these models, for shells and for programs that take an address."""

from __future__ import annotations

import click

from broker.cli.options import reported_errors
from broker.config.model_argument import spec_of
from worker_client.node import shared


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]SOURCE...")
@click.option(
    "--idle-seconds",
    default=120.0,
    show_default=True,
    help="Stop the broker when it has had no worker for this many seconds.",
)
@click.option("--job", help="Share the broker only with callers that name the same job.")
@click.option(
    "--log", type=click.Path(dir_okay=False), help="The broker's log file.  [default: next to its socket]"
)
@click.option(
    "--timeout",
    default=120.0,
    show_default=True,
    help="Maximum seconds to wait until the broker answers workers.",
)
def node(
    models: tuple[str, ...], idle_seconds: float, job: str | None, log: str | None, timeout: float
) -> None:
    """Print the address of this node's broker for these models; start the broker if it is not running.

    The same as worker_client.node.shared(...) in Python: processes that want the same models, with unchanged files,
    share the broker. BROKER_ADDRESS=$(onesession node digits=models/digits) points a program to it.
    """
    with reported_errors():
        specs = {spec.name: spec.source for spec in map(spec_of, models)}
        client = shared(specs, idle_seconds=idle_seconds, job=job, log=log, timeout=timeout)
        with client:
            client.models()
        click.echo(client.address)
