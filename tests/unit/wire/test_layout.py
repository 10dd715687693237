"""The offsets of shared memory: which side writes where, and that the other side does not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_client.wire import layout
from worker_client.wire.layout import (
    LINE,
    LINE_WORDS,
    MAX_REGION,
    MAX_SLOTS,
    MIN_REGION,
    RING_END,
    RING_ENTRIES,
    SLOT_HEADER,
    WORD,
    align,
    block_bytes,
    header_offset,
    input_offset,
    output_offset,
    size_class,
)

REQUEST_LINE = (
    "SEQUENCE",
    "SIGNATURE",
    "INPUT_BYTES",
    "DEADLINE_NS",
    "NOTIFY",
    "CANCELLED",
    "SUBMITTED_NS",
    "WAITING",
)
COMPLETION_LINE = ("DONE", "STATUS", "OUTPUT_BYTES", "OUTPUT_REGION", "BATCH_ROWS")
TIME_LINE = ("TAKEN_NS", "STARTED_NS", "FINISHED_NS", "COMPLETED_NS")
WORKER_WORDS = REQUEST_LINE
BROKER_WORDS = (*COMPLETION_LINE, *TIME_LINE)

line_sizes = st.integers(1, 300).map(lambda lines: lines * LINE)


def word(name: str) -> int:
    return getattr(layout, name)


def lines(names: tuple[str, ...]) -> set[int]:
    return {word(name) // LINE_WORDS for name in names}


def test_every_word_of_a_slot_header_is_its_own():
    """No two fields of a slot header share a word, and all lie inside the header."""
    words = [word(name) for name in (*WORKER_WORDS, *BROKER_WORDS)]
    assert len(set(words)) == len(words)
    assert all(0 <= index < SLOT_HEADER // WORD for index in words)


def test_a_line_of_a_slot_header_has_one_writer():
    """Worker and broker never write the same line of a slot header."""
    assert not lines(WORKER_WORDS) & lines(BROKER_WORDS)


@pytest.mark.parametrize("names", [REQUEST_LINE, COMPLETION_LINE, TIME_LINE])
def test_a_named_line_is_one_line(names: tuple[str, ...]):
    """The fields that are called a line fit into 64 bytes."""
    assert len(lines(names)) == 1


def test_a_line_of_the_ring_has_one_writer():
    """The broker's line, the tail, the head and the entries of a channel stand on lines of their own."""
    first_entry, last_entry = layout.ENTRIES_WORD, layout.ENTRIES_WORD + RING_ENTRIES - 1
    ring_lines = [
        layout.POLL_WORD // LINE_WORDS,
        layout.TAIL_WORD // LINE_WORDS,
        layout.HEAD_WORD // LINE_WORDS,
    ]
    ring_lines += range(first_entry // LINE_WORDS, last_entry // LINE_WORDS + 1)
    assert len(set(ring_lines)) == len(ring_lines)


def test_the_first_block_starts_behind_the_ring():
    """The ring ends with its last entry, on a line's end, so the block behind it is aligned."""
    assert RING_END == (layout.ENTRIES_WORD + RING_ENTRIES) * WORD
    assert RING_END % LINE == 0


def test_the_ring_is_never_full():
    """There are at least as many ring entries as slots, and their number is a power of two, as the mask needs."""
    assert RING_ENTRIES >= MAX_SLOTS
    assert RING_ENTRIES & (RING_ENTRIES - 1) == 0


@pytest.mark.parametrize(
    "names",
    [
        ("POLL_FREELY", "POLL_NOT", "POLL_GIVING_WAY"),
        ("NOTIFY_SLOT", "NOTIFY_BELL"),
        ("WAITING_POLLS", "WAITING_BLOCKS"),
    ],
)
def test_no_state_has_the_value_of_fresh_memory(names: tuple[str, ...]):
    """States are distinct, and none is 0, which is what unwritten memory holds."""
    values = [word(name) for name in names]
    assert len(set(values)) == len(values)
    assert 0 not in values


def test_no_deadline_is_later_than_any_clock_and_fits_a_word():
    """NO_DEADLINE compares above every CLOCK_MONOTONIC reading and is a signed 64-bit number on either side."""
    assert layout.NO_DEADLINE == 2**63 - 1


@given(count=st.integers(1, MAX_SLOTS), input_bytes=line_sizes, output_bytes=line_sizes)
def test_the_parts_of_a_block_do_not_overlap(count: int, input_bytes: int, output_bytes: int):
    """Headers and regions of a block are 64-byte aligned, disjoint, and fill exactly its size."""
    sizes = count, input_bytes, output_bytes
    parts = []
    for index in range(count):
        parts.append((header_offset(index), SLOT_HEADER))
        parts.append((input_offset(index, *sizes), input_bytes))
        parts.append((output_offset(index, *sizes), output_bytes))
    parts.sort()
    assert all(start % LINE == 0 for start, _ in parts)
    assert all(start + size <= after for (start, size), (after, _) in itertools.pairwise(parts))
    assert parts[0][0] == 0
    assert sum(parts[-1]) == sum(size for _, size in parts) == block_bytes(*sizes)


@given(st.integers(0, 1 << 50))
def test_align_rounds_up_to_lines(nbytes: int):
    """An aligned size is a whole number of lines, no smaller, and less than a line larger."""
    aligned = align(nbytes)
    assert aligned % LINE == 0
    assert 0 <= aligned - nbytes < LINE


@given(st.integers(0, MAX_REGION))
def test_a_size_class_holds_what_was_asked_for(nbytes: int):
    """A size class is a power of two from the page up, holds the bytes asked for, and is the smallest that does."""
    size = size_class(nbytes)
    assert size & (size - 1) == 0
    assert size >= max(nbytes, MIN_REGION)
    assert size == MIN_REGION or size // 2 < nbytes


@pytest.mark.parametrize(
    ("nbytes", "size"), [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192), (8192, 8192), (8193, 16384)]
)
def test_size_classes_at_their_edges(nbytes: int, size: int):
    """A request of exactly a size class gets that class, one byte more the next."""
    assert size_class(nbytes) == size
