"""What a user of `onesession top` has chosen to see, and the keys by which. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker.observe.summary import Figures, shown

SORTS: dict[str, Callable[[Figures], Any]] = {
    "name": lambda figure: (figure.model, figure.version, figure.signature),
    "load": lambda figure: -figure.per_second,
    "p50": lambda figure: -figure.us("total", 0.5),
    "p99": lambda figure: -figure.us("total", 0.99),
    "failed": lambda figure: -figure.failed,
}
"""By what models can be sorted; where two are equal, they stay in the broker's order."""

HELP = (
    ("s", "sort by the next of: broker's order, " + ", ".join(SORTS)),
    ("/", "show only what has a text in its name; Enter ends the text, Escape takes it away"),
    ("a", "show or hide signatures that were never called, of models that were"),
    ("h  ?", "show or hide this help"),
    ("q  Ctrl-C", "quit"),
)
_ESCAPE = "\x1b"
_SEQUENCE = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]")  # of an arrow, or another key with no character
_QUIT = ("q", "Q", _ESCAPE)
_ERASE = ("\x7f", "\b")


@dataclass(slots=True)
class TopView:
    """`sort` is empty for the broker's order; `typing` while the user writes the `filter`."""

    sort: str = ""
    filter: str = ""
    all: bool = False
    help: bool = False
    typing: bool = False

    def press_all(self, keys: str) -> bool:
        """True if one of them quits, or if there are none: then the terminal is gone. Arrows do nothing."""
        return not keys or any(self.press(key) for key in _SEQUENCE.sub("", keys))

    def press(self, key: str) -> bool:
        """True if the key quits."""
        if self.typing:
            self._type(key)
        elif key in _QUIT:
            return not self._escaped(key)
        elif key in ("s", "S"):
            sorts = ["", *SORTS]
            self.sort = sorts[(sorts.index(self.sort) + 1) % len(sorts)]
        elif key == "/":
            self.typing, self.filter = True, ""
        elif key in ("a", "A"):
            self.all = not self.all
        elif key in ("h", "H", "?"):
            self.help = not self.help
        return False

    def _escaped(self, key: str) -> bool:
        """Escape leaves the help or the filter, if there is one, in place of the program."""
        if key != _ESCAPE or not (self.help or self.filter):
            return False
        self.help, self.filter = False, "" if not self.help else self.filter
        return True

    def _type(self, key: str) -> None:
        if key in ("\r", "\n", _ESCAPE):
            self.typing = False
            self.filter = "" if key == _ESCAPE else self.filter
        elif key in _ERASE:
            self.filter = self.filter[:-1]
        elif key.isprintable():
            self.filter += key

    def chosen(self, found: list[Figures], now: dict[str, Any]) -> list[Figures]:
        """What is shown, in which order."""
        figures = found if self.all else shown(found, now)
        wanted = self.filter.casefold()
        figures = [
            each for each in figures if wanted in f"{each.model}:{each.signature}@{each.version}".casefold()
        ]
        return sorted(figures, key=SORTS[self.sort]) if self.sort else figures

    def describe(self) -> str:
        """`sorted by load, only "digits"`, the last line of the screen but the keys."""
        parts = [f"sorted by {self.sort}"] if self.sort else []
        if self.filter or self.typing:
            parts.append(f'only "{self.filter}{"_" if self.typing else ""}"')
        if self.all:
            parts.append("all signatures")
        return ", ".join(parts)
