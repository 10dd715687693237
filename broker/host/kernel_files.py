"""The small text files of /proc and of control groups: not there, or not ours to read, is a normal answer."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")
"""Below which readers look for /proc and control groups; tests give them a tree of their own."""


def lines(file: Path) -> list[str]:
    """None of them where the file cannot be read. Names in it may be of any bytes."""
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def number(file: Path) -> int | None:
    """None for a word ("max"), and where the file cannot be read."""
    text = "".join(lines(file)).strip()
    return int(text) if text.removeprefix("-").isdigit() else None


def amounts(file: Path) -> dict[str, int]:
    """Of files with a name and a number in each line, as memory.stat."""
    pairs = (line.split() for line in lines(file))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
