"""`onesession models`: the models of a broker, with every version and signature."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from broker.cli.options import reported_errors, running_option
from broker.control_plane.query import ask
from broker.observe.formatting import joined, state_of
from worker_client.wire.signature import Signature

_STYLES = {"AVAILABLE": "green", "END": "dim", "LOADING": "yellow", "START": "yellow", "UNLOADING": "yellow"}


@click.command()
@running_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def models(name: str | None, as_json: bool) -> None:
    """Show the models of a running broker, their versions and states. Fails if none answers."""
    with reported_errors():
        found = ask(name, "models")["models"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    Console().print(shown(found))


def shown(models: Mapping[str, Any]) -> Tree:
    """A broker's answer to `models`, formatted for people."""
    tree = Tree("models")
    for model, info in models.items():
        branch = tree.add(escape(f"{model}, {_served(info)}, from {info['source']}"))
        for version in info["versions"]:
            _show(branch, info, version)
    return tree


def _served(info: dict[str, Any]) -> str:
    return "no version" if info["version"] is None else f"version {info['version']}"


def _show(branch: Tree, info: dict[str, Any], version: dict[str, Any]) -> None:
    leaf = branch.add(", ".join(_facts(info, version)))
    for signature in version["signatures"]:
        stateful = "stateful" if signature["stateful"] else ""
        marks = [state_of(signature), joined(info, signature), stateful, signature["note"]]
        leaf.add(escape(f"{Signature.from_message(signature)}  {', '.join(m for m in marks if m)}"))
    for left_out, reason in version["left_out"].items():
        leaf.add(escape(f"{left_out}: left out, {reason}"))


def _facts(info: dict[str, Any], version: dict[str, Any]) -> Iterator[str]:
    state = version["state"]
    since = datetime.fromtimestamp(version["since"]).astimezone()
    labels = [
        label for label, labelled in info["labels"].items() if labelled["version"] == version["version"]
    ]
    yield f"version {version['version']}: [{_STYLES[state]}]{state}[/] since {since:%Y-%m-%d %H:%M:%S}"
    if version["cause"]:
        yield escape(version["cause"])
    if labels:
        yield escape(f"label {', '.join(labels)}")
    if state == "AVAILABLE":
        yield state_of(version)
        yield f"{version['p50_us']:.0f} us a row" if version["p50_us"] is not None else "not measured"
        if version["memory_bytes"]:
            yield f"{version['memory_bytes'] / (1 << 20):.0f} MiB"
