"""The line of each key in a TOML file, for error messages. This is not a parser: a key that it misses gets its table's
line."""

from __future__ import annotations

import re
from collections.abc import Iterator

Path = tuple[str, ...]

_PART = r'(?:"[^"]*"|\'[^\']*\'|[A-Za-z0-9_-]+)'
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]\]?")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=\s*(.*)")
_INLINE = re.compile(rf"[{{,]\s*({_PART})\s*=")
_OF_SEVERAL = "one of several"  # which may have the same name
_QUOTES = ('"""', "'''")


def places_of(text: str) -> dict[Path, int]:
    """{keys from the top: line number from 1}, tables included."""
    found: dict[Path, int] = {}
    for path, number, _ in _keys(text):
        found.setdefault(path, number)
    return found


def repeated(text: str) -> tuple[Path, str, str] | None:
    """The first key or table that is defined twice, and both places: `as a value in line 2`, `as a table in line 4`."""
    found: dict[Path, str] = {}
    for path, number, kind in _keys(text):
        if kind == _OF_SEVERAL:
            continue
        place = f"as {kind} in line {number}"
        if path in found:
            return path, found[path], place
        found[path] = place
    return None


def _keys(text: str) -> Iterator[tuple[Path, int, str]]:
    """Each key and table header, with its line and its kind."""
    table: Path = ()
    for number, line in _outside_of_texts(text):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            table = _parts(header[1])
            yield table, number, _OF_SEVERAL if line.lstrip().startswith("[[") else "a table"
        elif key:
            path = (*table, *_parts(key[1]))
            yield path, number, "a value"
            if key[2].startswith("{"):
                for inner in _INLINE.finditer(key[2]):
                    yield (*path, *_parts(inner[1])), number, _OF_SEVERAL


def line_of(places: dict[Path, int], path: Path) -> int | None:
    """The key's line, or the line of the nearest table that holds the key."""
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
    """The lines that do not begin inside a multi-line string."""
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
