"""Options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def common(name: str) -> Callable[[F], F]:
    """`seed`, `quick` and `path` for the command `name`."""
    options = [
        click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the inputs."),
        click.option(
            "--quick",
            is_flag=True,
            help="Everything once and short, to see that it runs: no figures to trust.",
        ),
        click.option(
            "--json",
            "path",
            type=click.Path(dir_okay=False, path_type=Path),
            help=f"Where to write all figures; default benchmarks/results/{name}-TIME.json.",
        ),
    ]

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
