"""What each caller does, one operation after the other. The seed determines it, and it can be written as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from tests.differential.draw import Draw
from tests.differential.kinds import KINDS
from tests.differential.kinds.kind import Kind
from tests.differential.ways import USUAL, WAYS, Setup, Way

_TABLE = 4096


class Operation(NamedTuple):
    """A way to call, the kind of model that is called, and the seed of all that is drawn meanwhile."""

    way: str
    kind: str
    seed: int

    def __str__(self) -> str:
        inputs = KINDS[self.kind].make(Draw(self.seed), 0)
        return f"{self.way} {self.kind} { ({name: list(value.shape) for name, value in inputs.items()}) }"


class Menu:
    """Among which a caller's operations are drawn: every way that its setup can go, with every kind that fits it."""

    def __init__(self, setup: Setup, kinds: Iterable[str] = (), ways: Iterable[str] = ()) -> None:
        wanted_kinds = [KINDS[name] for name in kinds] or list(KINDS.values())
        wanted_ways = [WAYS[name] for name in ways] or list(USUAL.values())
        pairs = [
            (way.weight * kind.weight / _weight(way, wanted_kinds), way.name, kind.name)
            for way in wanted_ways
            if setup in way.setups
            for kind in wanted_kinds
            if way.fits(kind)
        ]
        if not pairs:
            raise ValueError(
                f"no way of {sorted(ways)} goes with a kind of {sorted(kinds)} for {setup.value}"
            )
        self._table = _spread(pairs)

    def operations(self, seed: str) -> Iterator[Operation]:
        """An endless sequence of operations."""
        first = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little")
        for index in count():
            draw = Draw(first + index)
            way, kind = draw.among(self._table)
            yield Operation(way, kind, draw.bits() >> 24)


def _weight(way: Way, kinds: Iterable[Kind]) -> int:
    return sum(kind.weight for kind in kinds if way.fits(kind))


def _spread(pairs: Sequence[tuple[float, str, str]]) -> list[tuple[str, str]]:
    total = sum(weight for weight, *_ in pairs)
    return [(way, kind) for weight, way, kind in pairs for _ in range(max(1, round(weight / total * _TABLE)))]


@dataclass
class Process:
    """The operations of each thread of one worker."""

    place: int
    threads: list[list[Operation]]
    green: bool = False


@dataclass
class Script:
    """What can be replayed: `python -m tests.differential --replay FILE`."""

    processes: list[Process]
    seed: int = 0
    fault: str | None = None
    rounds: int = 1
    """How often all of it is done before it counts as right."""
    chaos: bool = False
    message: str = ""
    history: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(len(thread) for process in self.processes for thread in process.threads)

    def to_json(self) -> dict[str, Any]:
        return {
            "message": self.message.splitlines(),
            "history": self.history,
            "seed": self.seed,
            "fault": self.fault,
            "rounds": self.rounds,
            "chaos": self.chaos,
            "processes": [
                {"place": one.place, "green": one.green, "threads": [list(map(list, t)) for t in one.threads]}
                for one in self.processes
            ],
            "in words": [[list(map(str, thread)) for thread in one.threads] for one in self.processes]
            if self.size <= 200
            else [],
        }

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> Script:
        processes = [
            Process(one["place"], [[Operation(*each) for each in t] for t in one["threads"]], one["green"])
            for one in found["processes"]
        ]
        return cls(
            processes, found["seed"], found["fault"], found["rounds"], found["chaos"],
            "\n".join(found["message"]), found["history"],
        )  # fmt: skip
