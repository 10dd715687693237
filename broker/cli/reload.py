"""`onesession reload`: bring models up to date while they are served; roll back; move a label."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from broker.cli.completion import served_models
from broker.cli.options import reported_errors, running_option
from broker.control_plane.query import ask
from broker.models.version_policy import WHAT_A_POLICY_IS, Policy
from worker_client.wire.errors import InvalidInput


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=served_models)
@running_option
@click.option(
    "--version",
    "versions",
    metavar="POLICY",
    help="Serve these versions from now on: a number, 1,3, latest, latest:2 or all.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="LABEL=VERSION",
    help="Point the label at this version. May be given several times.",
)
@click.option(
    "--timeout",
    type=float,
    help="Seconds to wait for the reload to finish; the broker continues in any case.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def reload(
    models: tuple[str, ...],
    name: str | None,
    versions: str | None,
    labels: tuple[str, ...],
    timeout: float | None,
    as_json: bool,
) -> None:
    """Load new versions of these models, or of all, from disk and unload the versions that they replace.

    Calls continue meanwhile, and use the new version once it is loaded and warmed up. If a version cannot be loaded,
    the old one keeps serving and the command fails. --version and --label apply until the broker ends.

    \b
        onesession reload digits                 # the latest version on disk
        onesession reload digits --version 3     # roll back
    """
    with reported_errors():
        fields: dict[str, Any] = {"models": list(models), "labels": dict(map(_label, labels))}
        if versions is not None:
            fields["versions"] = _policy(versions)
        found: dict[str, dict[str, Any]] = ask(name, "reload", timeout, **fields)["models"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for model, outcome in found.items():
            click.echo(f"{model}: {_outcome_text(outcome)}")
    sys.exit(1 if any(outcome["failed"] or outcome["note"] for outcome in found.values()) else 0)


def _policy(text: str) -> Any:
    try:
        return Policy.of(text).to_value()
    except ValueError:
        raise InvalidInput(f"--version {text}: expected {WHAT_A_POLICY_IS}") from None


def _label(text: str) -> tuple[str, int]:
    label, equals, number = text.partition("=")
    if not (label and equals and number.isascii() and number.isdecimal()):
        raise InvalidInput(f"--label {text}: that is not LABEL=VERSION; write --label canary=3")
    return label, int(number)


def _outcome_text(outcome: dict[str, Any]) -> str:
    version = outcome["version"]
    parts = ["no version can be called" if version is None else f"version {version} is served"]
    done = [(what, outcome[what]) for what in ("loaded", "unloaded")]
    parts += [f"{what} {', '.join(map(str, numbers))}" for what, numbers in done if numbers]
    parts += [cause for _, cause in sorted(outcome["failed"].items())]
    if outcome["draining"]:
        parts.append(
            f"{', '.join(map(str, outcome['draining']))} still drains: unloaded when its requests are finished"
        )
    if outcome["note"]:
        parts.append(outcome["note"])
    if len(parts) == 1:
        parts.append("nothing has changed on disk")
    return "; ".join(parts)
