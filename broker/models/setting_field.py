"""Defines a setting once, as a field of Settings or ModelSpec.

    slots: int = setting(8, IntegerCheck(1, MAX_SLOTS), "Slots per worker at first.")

The check with its message, the option of the serve and run commands, the output of `onesession config show` and the
reference are generated from that field.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import Enum
from typing import Any

from worker_client.wire.errors import InvalidInput

_INT32 = (1 << 31) - 1

Check = Callable[[str, Any, Any], Any]
"""(name of the setting, its value, the object that has it) -> the value to keep. Raises InvalidInput."""


def setting(
    default: Any, check: Check, doc: str = "", *, option: str = "", metavar: str | None = None
) -> Any:
    """A dataclass field; a callable `default` creates the value. None is accepted if it is the default.

    With a `doc` it is an option of the command line, `--name-of-the-field` unless `option` spells it otherwise.
    """
    about = {"check": check, "doc": doc, "option": option, "metavar": metavar}
    if callable(default):
        return field(default_factory=default, metadata=about)
    return field(default=default, metadata=about)


def check_settings(of: Any, whose: str = "") -> None:
    """Check each setting of a frozen dataclass in order, and store its normal form. Raises InvalidInput."""
    for each in fields(of):
        value = getattr(of, each.name)
        if "check" in each.metadata and not (value is None and each.default is None):
            try:
                object.__setattr__(of, each.name, each.metadata["check"](each.name, value, of))
            except InvalidInput as error:
                raise InvalidInput(f"{whose}{error}") from None


def default_of(each: Field[Any]) -> Any:
    """The default value of a field; None if it has none."""
    if each.default_factory is not MISSING:
        return each.default_factory()
    return None if each.default is MISSING else each.default


def wrong(name: str, expected: str, value: Any) -> InvalidInput:
    return InvalidInput(f"{name} must be {expected}, got {value!r}")


@dataclass(frozen=True, slots=True)
class IntegerCheck:
    """Checks for an integer; `least` may be the name of a setting or property that gives the minimum."""

    least: int | str
    most: int
    multiple_of: int = 1

    def __call__(self, name: str, value: Any, of: Any) -> Any:
        least = getattr(of, self.least) if isinstance(self.least, str) else self.least
        if not is_whole(value) or not least <= value <= self.most:
            raise wrong(name, f"an integer from {least} to {self.most}", value)
        if value % self.multiple_of:
            raise wrong(name, f"a multiple of {self.multiple_of}", value)
        return value


@dataclass(frozen=True, slots=True)
class ChoiceCheck:
    """Checks for one of an Enum's values."""

    kind: type[Enum]

    @property
    def values(self) -> list[str]:
        return [each.value for each in self.kind]

    def __call__(self, name: str, value: Any, of: Any) -> Any:
        if value not in self.values:
            raise wrong(name, f"one of {', '.join(self.values)}", value)
        return value


def only(expected: str, holds: Callable[[Any], bool]) -> Check:
    """A check that accepts values for which `holds` is true."""

    def check(name: str, value: Any, _of: Any) -> Any:
        if not holds(value):
            raise wrong(name, expected, value)
        return value

    return check


def form(expected: str, formed: Callable[[Any], Any]) -> Check:
    """A check that `formed` converts values to their normal form; for invalid ones it returns None or raises
    ValueError."""

    def check(name: str, value: Any, _of: Any) -> Any:
        with contextlib.suppress(ValueError):
            made = formed(value)
            if made is not None:
                return made
        raise wrong(name, expected, value)

    return check


def listed(expected: str, one: Check) -> Check:
    def check(name: str, value: Any, of: Any) -> Any:
        if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping)):
            raise wrong(name, expected, value)
        return tuple(one(f"each of {name}", each, of) for each in value)

    return check


def number(least: float, most: float) -> Check:
    return only(f"a number from {least} to {most}", lambda value: is_number(value) and least <= value <= most)


def count(most: int = _INT32) -> Check:
    def check(name: str, value: Any, _of: Any) -> Any:
        if not is_whole(value) or value < 1:
            raise wrong(name, "an integer >= 1", value)
        if value > most:
            raise wrong(name, f"at most {most:,}", value)
        return value

    return check


def seconds(least: float, most: float, other: str | None = None) -> Check:
    def holds(value: Any) -> bool:
        return value == other or (is_number(value) and least <= value <= most)

    return only(f"seconds from {least:g} to {most:g} or {other!r}", holds)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


FLAG = only("True or False", lambda value: isinstance(value, bool))
