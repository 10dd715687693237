"""`onesession node`: this node's broker for these models, for shells and for programs that take an address."""

from __future__ import annotations

import click

from broker.cli.model_argument import spec_of
from broker.cli.options import told_errors
from worker_client.node import shared


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]SOURCE...")
@click.option(
    "--idle-seconds",
    default=120.0,
    show_default=True,
    help="The broker ends when it has had no worker for so long.",
)
@click.option("--job", help="Share it with those only that name the same job.")
@click.option("--log", type=click.Path(dir_okay=False), help="Where it logs.  [default: beside its socket]")
@click.option(
    "--timeout", default=120.0, show_default=True, help="How long to wait at most until it answers workers."
)
def node(
    models: tuple[str, ...], idle_seconds: float, job: str | None, log: str | None, timeout: float
) -> None:
    """Print the address of this node's broker for these models, and start it if nobody has.

    The same as worker_client.node.shared(...) in Python: who wants the same models, with their files unchanged, shares
    the broker. BROKER_ADDRESS=$(onesession node digits=models/digits) leads a program to it.
    """
    with told_errors():
        specs = {spec.name: spec.source for spec in map(spec_of, models)}
        client = shared(specs, idle_seconds=idle_seconds, job=job, log=log, timeout=timeout)
        with client:
            client.models()
        click.echo(client.address)
