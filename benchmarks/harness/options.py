"""Options that commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

_QUICK = click.option(
    "--quick", is_flag=True, help="Run everything once and briefly, as a trial; its figures mean nothing."
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


class NamesType(click.ParamType):
    """`T3,T7`, in any case: some of `names`, in their order."""

    def __init__(self, names: Iterable[str], what: str = "target") -> None:
        self.name = what
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


def count(name: str, default: int, help: str, least: int = 1) -> Callable[[F], F]:
    """An option that takes an integer >= `least`."""
    return click.option(name, default=default, show_default=True, type=click.IntRange(least), help=help)


def only(choices: Iterable[str], what: str) -> Callable[[F], F]:
    """`--only`, to measure some of the targets or cases."""
    return click.option(
        "--only",
        multiple=True,
        type=click.Choice(list(choices), case_sensitive=False),
        help=f"Measure this {what} only. May be given several times.",
    )


def windows(default: int) -> Callable[[F], F]:
    return count("--windows", default, "Number of windows per arm at most.")


def seconds(
    default: float, help: str = "Length of a window in seconds.", least: float = 0.05
) -> Callable[[F], F]:
    return click.option(
        "--seconds", default=default, show_default=True, type=click.FloatRange(least), help=help
    )


def common(name: str, quick: bool = True) -> Callable[[F], F]:
    """`seed`, `quick` and `path` for the command `name`; not every command has a `quick`."""
    options = [
        count("--seed", 1, "Random seed of the inputs.", least=0),
        *([_QUICK] if quick else []),
        click.option(
            "--json",
            "path",
            type=click.Path(dir_okay=False, path_type=Path),
            help=f"Write all figures to this file.  [default: benchmarks/results/{name}-TIME.json]",
        ),
    ]

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
