"""A slot's life as a table: (state, step) -> state, and whose step it is. A step that is not in the table must not
happen.

Neither side stores the state; each knows its part of it. The table is the agreement between the two sides:
docs/protocol.md shows it, and tests/contract compares the code with it, as well as a model in which every interleaving
is tried.

A submission passes through the ring, so the ring's states are among the slot's: ENTERED (its number is in an entry),
SHOWN (the tail includes it), SUBMITTED (the worker has posted). A caller that leaves before the answer changes only
what happens to the answer, hence the second half of the states.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import Final


class Side(Enum):
    WORKER = "worker"
    BROKER = "broker"


class State(Enum):
    FREE = "free"
    CLAIMED = "claimed"
    ENTERED = "entered"
    SHOWN = "shown"
    SUBMITTED = "submitted"
    TAKEN = "taken"
    RUNNING = "running"
    DONE = "done"
    COMPLETED = "completed"
    ANSWERED = "answered"
    ABANDONED_SUBMITTED = "abandoned, submitted"
    ABANDONED_TAKEN = "abandoned, taken"
    ABANDONED_RUNNING = "abandoned, running"
    ABANDONED_DONE = "abandoned, done"
    ABANDONED_COMPLETED = "abandoned, completed"


class Step(Enum):
    """A step that a side takes with a slot. The first word is the verb that the code uses, if it has one."""

    CLAIM = "claim"
    WRITE = "write inputs or request line"
    ENTER = "store the ring entry"
    SHOW = "store the tail"
    SUBMIT = "post submitted"
    ABANDON = "abandon"
    ACQUIRE = "acquire completed"
    FETCH = "read the answer"
    RELEASE = "release"
    TAKE = "take: acquire submitted, read the entry"
    READ = "read request line or inputs"
    START = "start the run"
    FILL = "write outputs or completion line"
    FINISH = "store DONE"
    COMPLETE = "post completed"


_WORKERS = frozenset(
    {
        *(Step.CLAIM, Step.WRITE, Step.ENTER, Step.SHOW, Step.SUBMIT),
        *(Step.ABANDON, Step.ACQUIRE, Step.FETCH, Step.RELEASE),
    }
)

TABLE: Final = MappingProxyType(
    {
        (State.FREE, Step.CLAIM): State.CLAIMED,
        (State.CLAIMED, Step.WRITE): State.CLAIMED,
        (State.CLAIMED, Step.RELEASE): State.FREE,
        (State.CLAIMED, Step.ENTER): State.ENTERED,
        (State.ENTERED, Step.SHOW): State.SHOWN,
        (State.SHOWN, Step.SUBMIT): State.SUBMITTED,
        (State.SUBMITTED, Step.TAKE): State.TAKEN,
        (State.TAKEN, Step.READ): State.TAKEN,
        (State.TAKEN, Step.START): State.RUNNING,
        (State.TAKEN, Step.FILL): State.TAKEN,  # refused or dropped
        (State.TAKEN, Step.FINISH): State.DONE,
        (State.RUNNING, Step.READ): State.RUNNING,
        (State.RUNNING, Step.FILL): State.RUNNING,
        (State.RUNNING, Step.FINISH): State.DONE,
        (State.DONE, Step.COMPLETE): State.COMPLETED,
        (State.COMPLETED, Step.ACQUIRE): State.ANSWERED,
        (State.ANSWERED, Step.FETCH): State.ANSWERED,
        (State.ANSWERED, Step.WRITE): State.CLAIMED,  # run again in its block
        (State.ANSWERED, Step.RELEASE): State.FREE,
        # The caller leaves: deadline, cancel, an exception from a signal handler.
        (State.SUBMITTED, Step.ABANDON): State.ABANDONED_SUBMITTED,
        (State.TAKEN, Step.ABANDON): State.ABANDONED_TAKEN,
        (State.RUNNING, Step.ABANDON): State.ABANDONED_RUNNING,
        (State.DONE, Step.ABANDON): State.ABANDONED_DONE,
        (State.COMPLETED, Step.ABANDON): State.ABANDONED_COMPLETED,
        (State.ABANDONED_SUBMITTED, Step.TAKE): State.ABANDONED_TAKEN,
        (State.ABANDONED_TAKEN, Step.READ): State.ABANDONED_TAKEN,
        (State.ABANDONED_TAKEN, Step.START): State.ABANDONED_RUNNING,
        (State.ABANDONED_TAKEN, Step.FILL): State.ABANDONED_TAKEN,
        (State.ABANDONED_TAKEN, Step.FINISH): State.ABANDONED_DONE,
        (State.ABANDONED_RUNNING, Step.READ): State.ABANDONED_RUNNING,
        (State.ABANDONED_RUNNING, Step.FILL): State.ABANDONED_RUNNING,
        (State.ABANDONED_RUNNING, Step.FINISH): State.ABANDONED_DONE,
        (State.ABANDONED_DONE, Step.COMPLETE): State.ABANDONED_COMPLETED,
        (State.ABANDONED_COMPLETED, Step.ACQUIRE): State.ANSWERED,
    }
)


def side_of(step: Step) -> Side:
    """The only side that may take this step."""
    return Side.WORKER if step in _WORKERS else Side.BROKER
