"""A way to call a model, and the callers that may go it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tests.differential.caller import Caller
from tests.differential.draw import Draw
from tests.differential.kinds.kind import Kind

Do = Callable[[Caller, Kind, Draw], None]


class Setup(Enum):
    """What kind of thread a caller is."""

    MAIN = "the main thread"
    OTHER = "another thread"
    GREEN = "a greenlet"


THREADS = frozenset({Setup.MAIN, Setup.OTHER})
ANY = frozenset(Setup)
MAIN = frozenset({Setup.MAIN})


@dataclass(frozen=True)
class Way:
    """`do` makes a few calls and compares every answer. It lets through the errors of patient calls, of which the
    caller decides whether they may be."""

    name: str
    weight: float
    do: Do
    setups: frozenset[Setup] = ANY
    fits: Callable[[Kind], bool] = lambda kind: True


def light(kind: Kind) -> bool:
    return kind.model != "heavy"
