"""Reads the small text files of /proc and of control groups; a missing or unreadable file is a normal result."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")
"""The root below which readers find /proc and control groups; tests pass a tree of their own."""


def lines(file: Path) -> list[str]:
    """The lines of a file; empty if it cannot be read. Names in it may contain any bytes."""
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def number(file: Path) -> int | None:
    """The number in a file; None for a word ("max"), and if the file cannot be read."""
    text = "".join(lines(file)).strip()
    return int(text) if text.removeprefix("-").isdigit() else None


def amounts(file: Path) -> dict[str, int]:
    """The numbers by name, from a file with a name and a number in each line, such as memory.stat."""
    pairs = (line.split() for line in lines(file))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
