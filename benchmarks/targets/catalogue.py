"""Every line of TARGETS.md, and the command of this package that measures it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Line:
    """One target. `arguments` measure it and others that `choose` could have chosen; `quick` are for a trial."""

    target: str
    what: str
    arguments: tuple[str, ...]
    choose: str = ""  # the option that names a single target
    quick: tuple[str, ...] = ("--quick",)
    needs: str = ""  # a module that not every environment has


_LATENCY_QUICK = ("--rounds", "1", "--calls", "40", "--idle-seconds", "0.5")

CATALOGUE = (
    Line("T1", "mlp, one row, one worker: p50", ("latency",), "--only", _LATENCY_QUICK),
    Line("T2", "echo, one worker: p50", ("latency",), "--only", _LATENCY_QUICK),
    Line("T3", "mlp, 8 workers: requests/s", ("throughput", "--workers", "8"), "--target"),
    Line("T4", "a row of 602 kB on echo", ("latency",), "--only", _LATENCY_QUICK),
    Line("T5", "memory, 8 workers, mlp", ("memory",)),
    Line("T6", "fork to first answer", ("latency",), "--only", _LATENCY_QUICK),
    Line("T7", "mobilenet, 8 workers: rows/s", ("throughput", "--workers", "8"), "--target"),
    Line("T8", "a light model's p99 beside a heavy model", ("throughput", "--workers", "8"), "--target"),
    Line("T9", "an idle broker's CPU", ("latency",), "--only", _LATENCY_QUICK),
    Line("T10", "p99 while another model's version loads", ("reload",)),
    Line("T11", "a broker killed under load", ("recovery",), quick=("--kills", "1", "--callers", "1")),
    Line("T12", "random kills", ("survival",), "--only"),
    Line("T13", "hostile headers", ("survival",), "--only"),
    Line("T14", "HTTP through gunicorn", ("http",)),
    Line("T22", "one broker a node: start and end", ("node", "start")),
    Line("T23", "Spark: one broker a node", ("node", "spark"), needs="pyspark"),
)
NAMES = tuple(line.target for line in CATALOGUE)


def measurable() -> tuple[str, ...]:
    """The targets that can be measured in this environment."""
    return tuple(line.target for line in CATALOGUE if not line.needs or find_spec(line.needs))


@dataclass(frozen=True)
class CommandRun:
    """One command to run, and the targets that it is run for."""

    arguments: tuple[str, ...]
    targets: tuple[str, ...]


def plan(wanted: Iterable[str], quick: bool) -> list[CommandRun]:
    """The commands that measure these targets, each once, in the order of the catalogue."""
    steps: dict[tuple[str, ...], list[Line]] = {}
    for line in CATALOGUE:
        if line.target in wanted:
            steps.setdefault(line.arguments + (line.quick if quick else ()), []).append(line)
    return [
        CommandRun((*arguments, *_chosen(lines)), tuple(line.target for line in lines))
        for arguments, lines in steps.items()
    ]


def _chosen(lines: list[Line]) -> list[str]:
    option, names = lines[0].choose, [line.target for line in lines]
    if option == "--target":
        return [option, ",".join(names)]
    return [text for name in names for text in (option, name)] if option else []
