"""Every offset in shared memory, each computed from the one before. No other file contains offsets.

A *channel segment* holds the submission ring and the first block of slots; a *block segment* holds more slots; a
*region segment* holds only the tensors of one slot, once they are too large for its block. All words are native
unsigned 64-bit; a line is 64 bytes and is written by one side only.

    channel segment
    +--------+--------+--------+-----------------------+----------------------------------------+
    | broker | tail   | head   | ring entries          | block of slots                         |
    | line   | worker | broker | worker                |                                        |
    +--------+--------+--------+-----------------------+----------------------------------------+
    0        64       128      192                     RING_END

    block of `count` slots
    +----------------+---------------+--------------+---------------+-----
    | count headers  | input slot 0  | output slot 0| input slot 1  | ...
    +----------------+---------------+--------------+---------------+-----

    slot header, 256 bytes
    +----------------------------+-----------+-------------------------+----------------------------+
    | request line: worker       | (spare)   | completion line: broker | time line: broker          |
    +----------------------------+-----------+-------------------------+----------------------------+
    0                            64          128                       192

    input region: worker                        output region: broker
    +--------------+---------+---------+---     +----------+-----------+--------------+---------+---
    | tensor table | tensor  | tensor  | ...    | sequence | signature | tensor table | tensor  | ...
    +--------------+---------+---------+---     +----------+-----------+--------------+---------+---
    0                                           0          8           16
"""

from __future__ import annotations

from typing import Final

PROTOCOL: Final = 5
"""Increased with any change to this file, the tensor table or the control messages."""

WORD: Final = 8
LINE: Final = 64
LINE_WORDS: Final = LINE // WORD

# Broker line of a channel: how the broker lets this worker wait.
POLL_WORD: Final = 0
POLL_FREELY: Final = 1
POLL_NOT: Final = 2  # more workers are active than there are cores
POLL_GIVING_WAY: Final = 3  # the same, and the broker is never idle

# Submission ring: one producer (the worker), one consumer (the broker). A slot is in it at most once, so a ring of
# MAX_SLOTS entries is never full.
TAIL_WORD: Final = LINE_WORDS
HEAD_WORD: Final = 2 * LINE_WORDS
ENTRIES_WORD: Final = 3 * LINE_WORDS
RING_ENTRIES: Final = 256
MAX_SLOTS: Final = RING_ENTRIES
LEAVING: Final = (
    RING_ENTRIES  # in place of a slot: the worker gives up the channel, and has no socket to say so
)
RING_END: Final = (ENTRIES_WORD + RING_ENTRIES) * WORD

# Request line of a slot header (worker).
SEQUENCE: Final = 0  # number of this use of the slot, never 0; each slot starts at a random number
SIGNATURE: Final = 1  # id of the signature, as reported at attach, plus BULK if others may go first
INPUT_BYTES: Final = 2  # length of the tensor table at the head of the input region
DEADLINE_NS: Final = 3  # CLOCK_MONOTONIC, or NO_DEADLINE
NOTIFY: Final = 4  # NOTIFY_SLOT, NOTIFY_BELL or NOTIFY_EVENT
CANCELLED: Final = 5  # the sequence for which no caller waits any more
SUBMITTED_NS: Final = 6
WAITING: Final = 7  # WAITING_POLLS or WAITING_BLOCKS: how the worker waits, and how the broker should

BULK: Final = 1 << 32
NO_DEADLINE: Final = (1 << 63) - 1
NOTIFY_SLOT: Final = 1
NOTIFY_BELL: Final = 2
NOTIFY_EVENT: Final = 3
WAITING_POLLS: Final = 1
WAITING_BLOCKS: Final = 2

# Completion line (broker). DONE is stored last and is only a hint to pollers: the hand-over is the semaphore.
DONE: Final = 2 * LINE_WORDS
STATUS: Final = DONE + 1
OUTPUT_BYTES: Final = DONE + 2  # length of the output's tensor table, or of the error message
OUTPUT_REGION: Final = DONE + 3  # number of the output region that holds them, from 1
BATCH_ROWS: Final = DONE + 4  # rows of the batch in which the request ran
HELD: Final = DONE + 5  # the sequence that waits until its model's queue has room

# Time line (broker), CLOCK_MONOTONIC nanoseconds. STARTED_NS is stored when a run begins as well: if it is not before
# SUBMITTED_NS, a worker whose broker dies knows that its request ran. Its bit JOINED is set if other requests ran with
# it.
TAKEN_NS: Final = 3 * LINE_WORDS
STARTED_NS: Final = TAKEN_NS + 1
JOINED: Final = 1 << 63
FINISHED_NS: Final = TAKEN_NS + 2
COMPLETED_NS: Final = TAKEN_NS + 3
BESIDE: Final = TAKEN_NS + 4  # the sequence that ran while other threads ran something

SLOT_HEADER: Final = 4 * LINE

# Head of an output region (broker): the request that it answers. The tensor table, or the error message, follows.
ANSWER_SEQUENCE: Final = 0  # the use of the slot
ANSWER_SIGNATURE: Final = 1  # SIGNATURE of its request line
OUTPUT_HEAD: Final = 2 * WORD

# Size classes of a region: powers of two, from one page.
MIN_REGION: Final = 4096
MAX_REGION: Final = 1 << 40


def align(nbytes: int) -> int:
    """`nbytes` rounded up to whole lines. TensorFlow feeds a tensor without a copy only if it starts on a line."""
    return (nbytes + LINE - 1) & -LINE


def size_class(nbytes: int) -> int:
    """The smallest region that holds `nbytes`."""
    return max(MIN_REGION, 1 << max(nbytes - 1, 0).bit_length())


def block_bytes(count: int, input_bytes: int, output_bytes: int) -> int:
    """Size of a block of `count` slots with regions of these sizes (multiples of a line)."""
    return count * (SLOT_HEADER + input_bytes + output_bytes)


def header_offset(index: int) -> int:
    """Where the header of the block's slot `index` starts, in bytes from the block."""
    return index * SLOT_HEADER


def input_offset(index: int, count: int, input_bytes: int, output_bytes: int) -> int:
    return count * SLOT_HEADER + index * (input_bytes + output_bytes)


def output_offset(index: int, count: int, input_bytes: int, output_bytes: int) -> int:
    return input_offset(index, count, input_bytes, output_bytes) + input_bytes
