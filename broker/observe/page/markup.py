"""HTML made of elements: whatever is not an element is text, and is escaped."""

from __future__ import annotations

import re
from html import escape

_MARK = "\0"  # around the number of a cell; no text has it
_MARKED = re.compile(f"{_MARK}([0-9]+){_MARK}")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str) -> Html:
    """`<tag attribute="...">children</tag>`. An attribute's name loses its last underscore, and has hyphens for the
    others: `class_`, `data_cell`."""
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_escaped(value)}"'
        for name, value in attributes.items()
        if value
    )
    return Html(f"<{tag}{named}>{together(*children)}</{tag}>")


def together(*children: str) -> Html:
    return Html("".join(each if isinstance(each, Html) else _escaped(each) for each in children))


def _escaped(text: str) -> str:
    return escape(text.replace(_MARK, ""))


class Cells:
    """The texts that change."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def cell(self, text: str, tag: str = "span", **attributes: str) -> Html:
        """An element whose place `filled` fills."""
        number = str(len(self.texts))
        self.texts.append(text)
        return element(tag, Html(f"{_MARK}{number}{_MARK}"), data_cell=number, **attributes)

    def filled(self, page: Html) -> Html:
        """The page with its texts."""
        return Html(_MARKED.sub(lambda match: _escaped(self.texts[int(match[1])]), page))
