"""A process that changes a worker's memory while the broker reads it, as fast as it can.

Half of what it stores is right and half is not, word by word, so that whatever the broker has checked may be otherwise
a moment later.
"""

from __future__ import annotations

import random

import numpy as np

from tests.faults.fuzz.cases import EDGES, Cases
from tests.faults.fuzz.target import SLOTS, Target
from worker_client.wire.layout import LINE_WORDS, RING_END, WORD

OUTPUT_WORDS = 16
ROUNDS = 1 << 12

Store = tuple[int, int]


def stores(target: Target, cases: Cases, seed: int) -> list[Store]:
    """(word of the segment, value), to be stored over and over. Not in the ring: its entries stay right."""
    rng = random.Random(seed)
    found: list[Store] = []
    for number in range(ROUNDS):
        slot = target.hostile.slots[number % SLOTS]
        header = _first_word(target, slot.words)
        case = cases.valid()
        for at, value in _places(case.header, header):
            found += [(at, rng.choice(EDGES)), (at, value)]
        for at, value in _places(case.table, _first_word(target, slot.input.memory)):
            found += [(at, rng.choice(EDGES)), (at, value)]
        found.append((header + 2 * LINE_WORDS + rng.randrange(2 * LINE_WORDS), rng.choice(EDGES)))
        found.append(
            (_first_word(target, slot.output.memory) + rng.randrange(OUTPUT_WORDS), rng.choice(EDGES))
        )
    return found


def meddle(target: Target, found: list[Store]) -> None:
    """In a child: until it is killed."""
    words = target.hostile.words
    assert all(at * WORD >= RING_END for at, _ in found)
    while True:
        for at, value in found:
            words[at] = value


def _places(values: list[int], first: int) -> list[Store]:
    return [(first + at, value) for at, value in enumerate(values)]


def _first_word(target: Target, part: memoryview) -> int:
    """Which word of the segment this part of it begins with."""
    whole = target.hostile.first_segment.bytes
    return (_address(part) - _address(whole)) // WORD


def _address(memory: memoryview) -> int:
    return int(np.frombuffer(memory, np.uint8).__array_interface__["data"][0])
