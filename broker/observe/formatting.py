"""Formats a broker's answers for people: short numbers, how workers wait, what signatures do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.counters.counted import counted

_SPARKS = "▁▂▃▄▅▆▇█"
_WAYS = {"freely": "poll", "yielding": "poll and yield", "no": "block"}


def duration(us: float) -> str:
    """`7.3us`, `12ms`, `1.5s`, five characters at most; a dash for none."""
    if us <= 0:
        return "-"
    if us < 999.5:
        return f"{_short(us)}us"
    if us < 999_500:
        return f"{_short(us / 1000)}ms"
    return f"{_short(us / 1_000_000)}s"


def number(value: float) -> str:
    """`0`, `7.5`, `950`, `12.3k`, `4.5M`"""
    for limit, unit in ((1e4, ""), (1e7, "k"), (1e10, "M")):
        if value < limit:
            scaled = value / {"": 1, "k": 1e3, "M": 1e6}[unit]
            return f"{scaled:.0f}{unit}" if scaled >= 100 or scaled == int(scaled) else f"{scaled:.1f}{unit}"
    return f"{value / 1e9:.0f}G"


def size(nbytes: float) -> str:
    """`512 B`, `3.4 KiB`, `120 MiB`"""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024 or unit == "GiB":
            break
        nbytes /= 1024
    return f"{nbytes:.0f} {unit}" if nbytes >= 100 or unit == "B" else f"{nbytes:.1f} {unit}"


def age(seconds: float) -> str:
    """`12 s`, `3 min`, `5.2 h`, `12 d`"""
    for limit, unit, text in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {text}"
    return f"{seconds / 86_400:.0f} d"


def sparkline(values: list[float], width: int) -> str:
    """The last `width` values as bars from 0 to the largest."""
    shown = values[-width:]
    top = max(shown, default=0.0)
    if top <= 0:
        return _SPARKS[0] * len(shown)
    return "".join(_SPARKS[min(int(value / top * len(_SPARKS)), len(_SPARKS) - 1)] for value in shown)


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def how_they_wait(waiting: Mapping[str, Any]) -> str:
    """`block (others use 1.3 of 2 cores)`, from `Polling.message`."""
    why = {
        "others": f"others use {waiting['busy_neighbours']:.1f} of {counted(waiting['cores'], 'core')}",
        "quota": f"a quota of {waiting['quota'] or 0:g} {'core' if waiting['quota'] == 1 else 'cores'}",
    }.get(waiting["reason"], waiting["reason"])
    return f"{_WAYS[waiting['polling']]} ({why})"


def state_of(described: Mapping[str, Any]) -> str:
    """`heavy (long run)`, of a signature or a version."""
    return f"{'light' if described['light'] else 'heavy'} ({described['why'] or 'not served yet'})"


def joined(info: Mapping[str, Any], signature: Mapping[str, Any]) -> str:
    """`joined, up to 64 rows a run`, or why not. `info` describes the model."""
    if not signature["batchable"]:
        return f"kept apart: {signature['apart']}"
    rows = info["max_batch_size"]
    return f"joined, up to {rows} rows a run" if rows > 1 else "not joined: max_batch_size = 1"
