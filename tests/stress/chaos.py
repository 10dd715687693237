"""What is done next, and to which process: drawn with one seed from the deeds that a scene offers."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple, Protocol

LONGEST_PAUSE_S = 0.05
LONGEST_STOP_S = 0.3


class Deed(NamedTuple):
    """One of what may be done: how often among the others, its name, how many are killed by it."""

    weight: int
    name: str
    kills: int
    do: Callable[[Random], None]


class Scene(Protocol):
    """Workers at work, and their broker."""

    @property
    def deeds(self) -> Sequence[Deed]:
        """What may be done to them."""

    @property
    def calls(self) -> int:
        """Answered so far."""

    def check(self) -> None:
        """Raises Fault for what has gone wrong so far."""


class Chaos:
    """Does one deed after the other to a scene."""

    def __init__(self, scene: Scene, seed: str, longest_pause_s: float = LONGEST_PAUSE_S) -> None:
        self._deeds = list(scene.deeds)
        self._longest_pause_s = longest_pause_s
        self._random = Random(seed)
        self.done: Counter[str] = Counter()
        self.kills = 0

    def strike(self) -> None:
        """Wait a random moment, then do something."""
        pause(self._random, self._longest_pause_s)
        (deed,) = self._random.choices(self._deeds, [deed.weight for deed in self._deeds])
        deed.do(self._random)
        self.done[deed.name] += 1
        self.kills += deed.kills


def pause(random: Random, longest_s: float) -> None:
    threading.Event().wait(random.uniform(0, longest_s))


def suspend(pid: int, random: Random) -> None:
    """SIGSTOP and, a moment later, SIGCONT."""
    os.kill(pid, signal.SIGSTOP)
    pause(random, LONGEST_STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
