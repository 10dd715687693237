"""`broker models`: what is served, with every signature."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from broker.cli.options import name_option, told_errors
from broker.query import ask
from worker_client.wire.signature import Signature


@click.command()
@name_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def models(name: str | None, as_json: bool) -> None:
    """Show the models of a running broker. Fails if none answers."""
    with told_errors():
        found = ask(name, "models")["models"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    tree = Tree("models")
    for model, info in found.items():
        kind = "light: runs inline" if info["light"] else "heavy: own runner"
        p50 = f"{info['p50_us']:.0f} us a row" if info["p50_us"] is not None else "not measured"
        branch = tree.add(escape(f"{model}, version {info['version']}, {kind}, {p50}, from {info['source']}"))
        for signature in info["signatures"]:
            marks = [
                mark
                for mark, there in (("batches", signature["batchable"]), (signature["note"], True))
                if there
            ]
            branch.add(escape(f"{Signature.from_message(signature)}  {', '.join(m for m in marks if m)}"))
        for left_out, reason in info["left_out"].items():
            branch.add(escape(f"{left_out}: left out, {reason}"))
    Console().print(tree)
