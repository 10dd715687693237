"""Requests with something wrong in them: pure random bytes, and valid requests of which one thing is not right.

A case is what a worker stores before it submits: words of the slot's request line, and words of its input region from
the start, where the tensor table is. `Cases` draws them from one seed; a case is told by its number.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from tests.faults.fuzz.models import REGION_BYTES
from worker_client.wire.layout import BULK, LINE, NO_DEADLINE
from worker_client.wire.tensors import MAX_TABLE

TOP = (1 << 64) - 1
EDGES = (
    *(0, 1, 2, 3, 4, 7, 8, 9, 63, 64, 65, 127, 128, 255, 256, 257, 511, 1023),
    *(REGION_BYTES - LINE, REGION_BYTES - 1, REGION_BYTES, REGION_BYTES + 1, REGION_BYTES + LINE),
    *(MAX_TABLE, MAX_TABLE + 8, 4095, 4096, 65535, 65536),
    *(1 << power for power in (20, 31, 32, 33, 38, 40, 41, 48, 52, 56, 61, 62, 63)),
    *((1 << power) - 1 for power in (31, 32, 33, 40, 62, 63)),
    *(
        TOP - below for below in (0, 1, 2, 3, 7, 63, 64, 255, 1023)
    ),  # -1, -2 .. as a C program would read them
)


class Case(NamedTuple):
    """`header`: the eight words of the request line. `table`: the first words of the input region."""

    header: list[int]
    table: list[int]


class Form(NamedTuple):
    """A valid request: the model, its inputs as (dtype code, shape), and the bytes of an element."""

    model: str
    inputs: tuple[tuple[int, tuple[int, ...]], ...]


FORMS = (
    Form("double", ((11, (2, 4)),)),
    Form("double", ((11, (1, 4)),)),
    Form("few", ((11, (9, 4)),)),
    Form("padded", ((11, (3, 4)),)),
    Form("mixed", ((4, (2, 2)), (12, (2,)), (1, (2, 1, 3)))),
    Form("any_rank", ((6, (3, 5, 7)),)),
    Form("any_rank", ((6, ()),)),
    Form("ragged", ((11, (2, 5)),)),
    Form("wide", ((11, (3, 3)),)),
    Form("scalar", ((5, ()),)),
    Form("constant", ()),
)
_BYTES = {1: 1, 4: 4, 5: 8, 6: 1, 11: 4, 12: 8}
_AS_LARGE = {1: 6, 6: 1, 4: 11, 11: 4, 5: 12, 12: 5}
"""Another dtype's code for each, with elements of the same size: nothing but the signature tells them apart."""


def table_of(form: Form) -> list[int]:
    """The table as the client lays it out."""
    words = [len(form.inputs)]
    end = -(-8 * (1 + sum(3 + len(shape) for _, shape in form.inputs)) // LINE) * LINE
    for code, shape in form.inputs:
        words += (code, len(shape), end, *shape)
        size = _BYTES[code]
        for n in shape:
            size *= n
        end += -(-size // LINE) * LINE
    return words


class Cases:
    """Draws cases. `valid` gives one with nothing wrong in it."""

    def __init__(self, ids: dict[str, int], seed: int) -> None:
        self._random = random.Random(seed)
        self._ids = ids
        self._tables = [(ids[form.model], table_of(form)) for form in FORMS]
        self._sequence = 0
        self._mutations: tuple[Callable[[Case], None], ...] = (
            *(self._header_word, self._table_word, self._table_word, self._table_word),
            *(self._dimension, self._dimensions, self._offset, self._overlap, self._dtype, self._rank),
            *(self._count, self._length, self._signature, self._empty_and_huge, self._line_of_noise),
        )

    def valid(self) -> Case:
        number, table = self._random.choice(self._tables)
        self._sequence += 1
        return Case([self._sequence, number, 8 * len(table), NO_DEADLINE, 1, 0, 1, 2], table[:])

    def wrong(self) -> Case:
        """A valid request with one to three things wrong."""
        case = self.valid()
        draw = self._random.random()
        for _ in range(1 if draw < 0.7 else 2 if draw < 0.9 else 3):
            self._random.choice(self._mutations)(case)
        return case

    def another_dtype(self) -> Case:
        """A valid request but for the dtype of one input, which its signature does not take."""
        case = self.valid()
        while not self._tensors(case.table):  # `constant` has no input
            case = self.valid()
        at = self._random.choice(self._tensors(case.table))
        case.table[at] = _AS_LARGE[case.table[at]]
        return case

    def noise(self) -> Case:
        """Random words; a quarter of them of a signature that exists, so that somebody reads on."""
        bits = self._random.getrandbits
        header = [bits(64) >> bits(6) for _ in range(8)]
        if bits(2) == 0:
            header[1] = bits(4)
            header[2] = 8 * bits(5)
        return Case(header, [bits(64) >> bits(6) for _ in range(bits(5))])

    def word(self) -> int:
        """A word that is likely to matter."""
        draw = self._random.random()
        if draw < 0.7:
            return self._random.choice(EDGES)
        bits = self._random.getrandbits(64)
        return bits >> self._random.getrandbits(6)

    def _at(self, words: list[int]) -> int:
        return self._random.randrange(len(words))

    def _header_word(self, case: Case) -> None:
        case.header[self._at(case.header)] = self.word()

    def _table_word(self, case: Case) -> None:
        case.table[self._at(case.table)] = self.word()

    def _tensors(self, table: list[int]) -> list[int]:
        """Where each tensor begins, by what the table itself says of the ranks."""
        found, at = [], 1
        while at + 3 <= len(table) and table[at + 1] <= 8:
            found.append(at)
            at += 3 + table[at + 1]
        return found

    def _tensor(self, table: list[int]) -> int | None:
        found = self._tensors(table)
        return self._random.choice(found) if found else None

    def _dimension(self, case: Case) -> None:
        table, at = case.table, self._tensor(case.table)
        if at is not None and table[at + 1] and at + 2 + table[at + 1] < len(table):
            table[at + 2 + self._random.randint(1, table[at + 1])] = self.word()

    def _dimensions(self, case: Case) -> None:
        """All of them, so that their product runs over."""
        table, at = case.table, self._tensor(case.table)
        if at is None:
            return
        power = self._random.choice((8, 11, 16, 20, 22, 32, 40, 62, 63))
        for index in range(at + 3, min(at + 3 + table[at + 1], len(table))):
            table[index] = 1 << power

    def _empty_and_huge(self, case: Case) -> None:
        """No elements at all, and dimensions without end: what costs the worker no memory."""
        table, at = case.table, self._tensor(case.table)
        if at is None:
            return
        last = min(at + 3 + table[at + 1], len(table))
        for index in range(at + 3, last):
            table[index] = self._random.choice((0, 1 << 20, 1 << 28, 1 << 32, 1 << 38))
        if last > at + 3:
            table[self._random.randrange(at + 3, last)] = 0

    def _offset(self, case: Case) -> None:
        at = self._tensor(case.table)
        if at is not None:
            case.table[at + 2] = self._random.choice(
                (
                    0,
                    8,
                    LINE,
                    2 * LINE,
                    REGION_BYTES - LINE,
                    REGION_BYTES,
                    REGION_BYTES + LINE,
                    TOP - 63,
                    1 << 63,
                )
            )

    def _overlap(self, case: Case) -> None:
        found = self._tensors(case.table)
        for at in found:
            case.table[at + 2] = case.table[found[0] + 2]

    def _dtype(self, case: Case) -> None:
        at = self._tensor(case.table)
        if at is not None:
            case.table[at] = self._random.choice((0, 1, 6, 10, 13, 14, 15, 16, 255, 1 << 32, TOP))

    def _rank(self, case: Case) -> None:
        at = self._tensor(case.table)
        if at is not None:
            case.table[at + 1] = self._random.choice((0, 1, 2, 3, 7, 8, 9, 64, 1 << 32, TOP))

    def _count(self, case: Case) -> None:
        case.table[0] = self._random.choice((0, 1, 2, 4, 1023, 1024, 1025, 1 << 32, TOP))

    def _length(self, case: Case) -> None:
        case.header[2] = self._random.choice(
            (
                0,
                1,
                7,
                8,
                16,
                32,
                40,
                48,
                64,
                128,
                REGION_BYTES,
                2 * REGION_BYTES,
                MAX_TABLE,
                MAX_TABLE + 8,
                TOP,
            )
        )

    def _signature(self, case: Case) -> None:
        number = self._random.choice((0, case.header[1], 10, 11, 1000, (1 << 32) - 1))
        case.header[1] = number | self._random.choice(
            (0, BULK, BULK << 1, BULK | BULK << 1, 1 << 63, TOP ^ BULK)
        )

    def _line_of_noise(self, case: Case) -> None:
        case.header[:] = [self.word() for _ in case.header]
