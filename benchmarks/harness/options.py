"""Options that commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

_QUICK = click.option(
    "--quick", is_flag=True, help="Everything once and short, to see that it runs: no figures to trust."
)

F = TypeVar("F", bound=Callable[..., Any])


class NumbersType(click.ParamType):
    """`1,8,16`"""

    name = "numbers"

    def __init__(self, least: int = 1) -> None:
        self._least = least

    def convert(self, value: Any, param: Any, context: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        texts = value.split(",")
        if not all(text.strip().isdecimal() and int(text) >= self._least for text in texts):
            self.fail(f"{value!r} is not a list of integers such as 1,8", param, context)
        return tuple(dict.fromkeys(int(text) for text in texts))


class TargetsType(click.ParamType):
    """`T3,T7`, in any case: some of `names`, in their order."""

    name = "targets"

    def __init__(self, names: Iterable[str], what: str = "target") -> None:
        self._known = {name.lower(): name for name in names}
        self._what = what

    def convert(self, value: Any, param: Any, context: Any) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        chosen = [text.strip() for text in value.split(",")]
        unknown = [text for text in chosen if text.lower() not in self._known]
        if unknown:
            known = ", ".join(self._known.values())
            self.fail(f"no {self._what} {', '.join(unknown)}; there are {known}", param, context)
        wanted = {text.lower() for text in chosen}
        return tuple(name for text, name in self._known.items() if text in wanted)


def common(name: str, quick: bool = True) -> Callable[[F], F]:
    """`seed`, `quick` and `path` for the command `name`; not every command has a `quick`."""
    options = [
        click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the inputs."),
        *([_QUICK] if quick else []),
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
