"""A number with its noun, as people write it."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 worker`, `2 workers`"""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
