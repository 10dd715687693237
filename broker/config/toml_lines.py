"""On which line of a TOML file a key stands, for error messages. No parser: what it misses has its table's line."""

from __future__ import annotations

import re
from collections.abc import Iterator

Path = tuple[str, ...]

_PART = r'(?:"[^"]*"|\'[^\']*\'|[A-Za-z0-9_-]+)'
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]\]?")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=\s*(.*)")
_INLINE = re.compile(rf"[{{,]\s*({_PART})\s*=")
_QUOTES = ('"""', "'''")


def places_of(text: str) -> dict[Path, int]:
    """{keys from the top: line number from 1}, tables included."""
    found: dict[Path, int] = {}
    table: Path = ()
    for number, line in _outside_of_texts(text):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            table = _parts(header[1])
            found.setdefault(table, number)
        elif key:
            path = (*table, *_parts(key[1]))
            found.setdefault(path, number)
            if key[2].startswith("{"):
                for inner in _INLINE.finditer(key[2]):
                    found.setdefault((*path, *_parts(inner[1])), number)
    return found


def line_of(places: dict[Path, int], path: Path) -> int | None:
    """The key's line, or that of the nearest table that holds it."""
    while path:
        if path in places:
            return places[path]
        inside = [number for other, number in places.items() if other[: len(path)] == path]
        if inside:
            return min(inside)
        path = path[:-1]
    return None


def _parts(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))


def _outside_of_texts(text: str) -> Iterator[tuple[int, str]]:
    """Lines that do not begin inside a text of several lines."""
    end = ""
    for number, line in enumerate(text.splitlines(), 1):
        if end:
            if end in line:
                end = ""
            continue
        yield number, line
        for quotes in _QUOTES:
            if line.count(quotes) % 2:
                end = quotes
