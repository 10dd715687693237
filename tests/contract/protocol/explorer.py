"""Breadth-first over all states of a model."""

from __future__ import annotations

import gc
from array import array
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from tests.contract.protocol.fields import Broken
from tests.contract.protocol.model import Model


class Fault(AssertionError):
    """A property is broken; the message tells the shortest way there."""


@dataclass(frozen=True)
class Found:
    """What an exploration has seen."""

    states: int
    moves: int
    at_rest: int


def explore(model: Model, most: int = 5_000_000) -> Found:
    """Visit every state. Raises Fault at the first that breaks a property, which is one of the nearest.

    Safety is checked by the steps themselves, rest wherever only time or fate can go on, and in the end that from
    every state the system comes to rest by itself: nobody is busy for ever.
    """
    collecting = gc.isenabled()
    gc.disable()  # millions of small objects, none of them in a cycle
    try:
        return _Exploration(model, most).run()
    finally:
        if collecting:
            gc.enable()


class _Exploration:
    def __init__(self, model: Model, most: int) -> None:
        self.model = model
        self.most = most
        start = model.start()
        self.numbers: dict[bytes, int] = {start: 0}
        self.parents = array("I", [0])
        self.queue: deque[bytes] = deque([start])
        self.sources, self.targets = array("I"), array("I")  # the system's own moves
        self.resting: list[int] = []
        self.moves = 0

    def run(self) -> Found:
        number = 0
        while self.queue:
            state = self.queue.popleft()
            try:
                self._visit(number, state)
            except Broken as broken:
                raise Fault(self._story(number, str(broken))) from None
            number += 1
        self._check_that_all_come_to_rest()
        return Found(len(self.numbers), self.moves, len(self.resting))

    def _visit(self, number: int, state: bytes) -> None:
        numbers, sources, targets = self.numbers, self.sources, self.targets
        resting = time_is_over = True
        for _thread, (system, after) in self.model.moves(state):
            self.moves += 1
            known = numbers.get(after)
            if known is None:
                known = numbers[after] = len(numbers)
                self.parents.append(number)
                self.queue.append(after)
                assert known < self.most, f"more than {self.most:,} states"
            if known != number:
                time_is_over = False
                if system:
                    resting = False
                    sources.append(number)
                    targets.append(known)
        if resting:
            self.resting.append(number)
            self.model.check_rest(state, time_is_over)

    def _check_that_all_come_to_rest(self) -> None:
        backwards = [0] * (len(self.numbers) + 1)  # for each state where its predecessors begin
        for target in self.targets:
            backwards[target + 1] += 1
        for index in range(len(self.numbers)):
            backwards[index + 1] += backwards[index]
        into, places = array("I", bytes(4 * len(self.targets))), backwards[:]
        for source, target in zip(self.sources, self.targets):
            into[places[target]] = source
            places[target] += 1
        reached = bytearray(len(self.numbers))
        waiting = list(self.resting)
        for number in waiting:
            reached[number] = 1
        while waiting:
            number = waiting.pop()
            for source in into[backwards[number] : backwards[number + 1]]:
                if not reached[source]:
                    reached[source] = 1
                    waiting.append(source)
        if (number := reached.find(0)) >= 0:
            raise Fault(self._story(number, "from here the system never comes to rest"))

    def _story(self, number: int, fault: str) -> str:
        states = {index: state for state, index in self.numbers.items()}
        way = [number]
        while way[-1]:
            way.append(self.parents[way[-1]])
        way.reverse()
        lines = [fault, f"after {len(way) - 1} steps:"]
        for before, after in pairwise(way):
            lines.append(f"  {self._telling(states[before], states[after])}")
        moved = [f"  then {self.model.threads[index].name}" for index in self._movers(states[number])]
        return "\n".join([*lines, *moved, self.model.f.describe(states[number])])

    def _telling(self, before: bytes, after: bytes) -> str:
        for index, (_system, found) in self.model.moves(before):
            if found == after:
                thread = self.model.threads[index]
                if not _system and not thread.ENVIRONMENT:
                    return (
                        f"{thread.name}: a signal handler raises before it {thread.action(thread.at(before))}"
                    )
                return f"{thread.name} {thread.action(thread.at(before))}"
        return "?"

    def _movers(self, state: bytes) -> list[int]:
        """Who takes the step that breaks a property."""
        for index, (pc, bodies, _may_raise, _unless, _system) in enumerate(self.model._programs):
            body = bodies[state[pc]]
            try:
                if body is not None:
                    body(state)
            except Broken:
                return [index]
        return []
