"""Options that take several numbers, as in `--workers 1,2,4`."""

from __future__ import annotations

from typing import Any

import click


class Numbers(click.ParamType):  # type: ignore[type-arg] # generic in click 8.4 only
    """Positive numbers, separated by commas; each is used once, in the order given."""

    def __init__(self, kind: type[int | float]) -> None:
        self.kind = kind
        self.name = "N,N,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(self.kind(text) for text in value.split(","))
        except ValueError:
            numbers = ()
        if not numbers or not all(0 < number < 1e9 for number in numbers):
            what = "integers" if self.kind is int else "numbers"
            self.fail(f"{value!r}: expected {what} above 0, separated by commas, such as 1,2,4", param, ctx)
        return tuple(dict.fromkeys(numbers))


INTEGERS = Numbers(int)
FLOATS = Numbers(float)
