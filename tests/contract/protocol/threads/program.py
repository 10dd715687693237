"""How a thread's program is written: a class with one method for each place that the thread can be at.

A method marked `@step` is given a state and returns what may come of the thread's next action there: None if it
blocks, one state, or a list of several. `goto` sets the place where it is then. The docstring is what stories call it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from tests.contract.protocol.fields import Fields

Outcome = bytearray | list[bytearray] | None
Body = Callable[[bytes], Outcome]
F = TypeVar("F", bound=Callable[..., Any])

END = "end"


def step(method: F) -> F:
    method.is_step = True  # type: ignore[attr-defined]
    return method


class Thread:
    """`START` names the first place. A thread at `END` is over."""

    START = ""
    BELONGS_TO_BROKER = False
    ENVIRONMENT = False  # time and fate: what need not happen
    LOCAL = frozenset[str]()
    """Places whose step nobody else can notice. It is taken at once, without trying what others do first: they would do
    the same after it."""

    def __init__(self, fields: Fields, name: str, worker: int | None = None) -> None:
        self.f = fields
        self.config = fields.config
        self.name = name
        self.worker = worker
        self.pc = fields.local(f"{name} is at")
        self.places = [*self._step_names(), END]
        self._number = {label: number for number, label in enumerate(self.places)}
        self.bodies: list[Body | None] = [*(getattr(self, label) for label in self.places[:-1]), None]

    def _step_names(self) -> Iterator[str]:
        for label in dir(type(self)):
            if getattr(getattr(type(self), label), "is_step", False):
                yield label

    def begin(self, state: bytearray) -> None:
        """Fill in what the thread starts with."""
        self.goto(state, self.START)

    def goto(self, state: bytearray, label: str) -> bytearray:
        state[self.pc] = self._number[label]
        return state

    def local_places(self) -> frozenset[str]:
        return self.LOCAL

    def at(self, state: bytes) -> str:
        return self.places[state[self.pc]]

    def action(self, label: str) -> str:
        """What the thread does at this place."""
        return (getattr(self, label).__doc__ or label).strip()
