"""The table of a slot's states: its own properties, and that all steps of the code are in it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.contract.protocol.diagram import diagram, in_page
from tests.contract.recording import Desk, Log, words_of
from worker_client.wire.layout import DONE, ENTRIES_WORD, LINE_WORDS, NOTIFY_BELL, RING_ENTRIES, TAIL_WORD
from worker_client.wire.states import TABLE, Side, State, Step, side_of

TOUCHED_BY_BROKER = (State.TAKEN, State.RUNNING, State.ABANDONED_TAKEN, State.ABANDONED_RUNNING)
TO_BE_POSTED = (State.DONE, State.ABANDONED_DONE)


class IllegalStep(Exception):
    """A side took a step that the table does not have."""


def after(state: State, step: Step) -> State:
    """The state that `step` leads to. Raises IllegalStep."""
    try:
        return TABLE[state, step]
    except KeyError:
        raise IllegalStep(
            f"the {side_of(step).value} may not {step.value!r}: the slot is {state.value}"
        ) from None


class Life:
    """One slot's state."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = State.FREE

    def __repr__(self) -> str:
        return f"<Life {self.state.value}>"

    def take(self, step: Step) -> None:
        """Raises IllegalStep, and then the state is as it was."""
        self.state = after(self.state, step)


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("state", State)
def test_an_illegal_step_changes_nothing(state: State, step: Step):
    """A step that is not in the table raises an error that names side and state, and leaves the state unchanged."""
    life = Life()
    life.state = state
    if (state, step) in TABLE:
        life.take(step)
        assert life.state is TABLE[state, step]
        return
    with pytest.raises(IllegalStep, match=side_of(step).value) as raised:
        life.take(step)
    assert state.value in str(raised.value)
    assert life.state is state


def reachable(start: State) -> set[State]:
    found, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        for (state, _), there in TABLE.items():
            if state is here and there not in found:
                found.add(there)
                waiting.append(there)
    return found


@pytest.mark.parametrize("state", State)
def test_every_state_comes_and_goes(state: State):
    """A slot can get from free into every state, and from there back to free."""
    assert state in reachable(State.FREE)
    assert State.FREE in reachable(state)


@pytest.mark.parametrize("state", State)
def test_one_side_at_a_time(state: State):
    """In no state may both sides touch a slot's memory."""
    touching = {Step.WRITE, Step.FETCH, Step.READ, Step.FILL}
    sides = {side_of(step) for step in touching if (state, step) in TABLE}
    assert len(sides) <= 1
    assert (Side.BROKER in sides) == (state in TOUCHED_BY_BROKER)


@pytest.mark.parametrize("state", [*TOUCHED_BY_BROKER, *TO_BE_POSTED])
def test_what_the_broker_has_is_not_used_again(state: State):
    """From every state in which the broker has a slot, the worker gets it back only through the broker's post."""
    for step in (Step.CLAIM, Step.WRITE, Step.RELEASE, Step.ACQUIRE, Step.FETCH, Step.ENTER):
        with pytest.raises(IllegalStep):
            after(state, step)


def test_the_page_shows_this_table():
    """The diagram in docs/protocol.md is that of the table (`python -m tests.contract.protocol.diagram` writes it)."""
    assert in_page() == diagram()


# -- the code's own steps ------------------------------------------------------------------------------------------


STEPS = {
    ("writes", "input"): Step.WRITE,
    ("worker stores", TAIL_WORD): Step.SHOW,
    ("posts", "submitted"): Step.SUBMIT,
    ("broker's slot stores", DONE): Step.FINISH,
    ("writes", "output"): Step.FILL,
    ("posts", "completed"): Step.COMPLETE,
    ("acquires", "completed"): Step.ACQUIRE,
}
RANGES = {
    "worker's slot stores": (range(LINE_WORDS), Step.WRITE),
    "worker stores": (words_of(ENTRIES_WORD, RING_ENTRIES), Step.ENTER),
    "broker reads": (words_of(ENTRIES_WORD, RING_ENTRIES), Step.TAKE),
    "broker's slot reads": (range(LINE_WORDS), Step.READ),
    "broker's slot stores": (words_of(DONE + 1, 2 * LINE_WORDS), Step.FILL),
    "worker's slot reads": (words_of(DONE + 1, 2 * LINE_WORDS), Step.FETCH),
}


def steps_of(log: Log) -> Iterator[Step]:
    """What the recorded reads, stores and posts of ring.py and the two slot.py mean for the slot."""
    for event in log:
        what, which = event
        words, step = RANGES.get(what, ((), None))
        if event in STEPS:
            yield STEPS[event]
        elif step is not None and which in words:
            yield step


@pytest.fixture
def desk() -> Desk:
    return Desk()


def walk(desk: Desk, state: State) -> State:
    """Take the steps that the code has taken since the last walk."""
    life = Life()
    life.state = state
    for step in steps_of(desk.log):
        life.take(step)
    desk.log.clear()
    return life.state


def test_a_call_goes_through_the_table(desk: Desk):
    """From its inputs to its answer, and once more in the same block, every store and post is a step of the table."""
    state = State.CLAIMED
    for rows in (2, 2, 3):
        desk.submit(rows)
        state = walk(desk, state)
        assert state is State.SUBMITTED
        desk.take()
        state = walk(desk, state)
        assert state is State.TAKEN
        desk.complete()
        state = walk(desk, state)
        assert state is State.COMPLETED
        desk.completed.acquire(0)
        desk.worker.result()
        state = walk(desk, state)
        assert state is State.ANSWERED


def test_a_refusal_goes_through_the_table(desk: Desk):
    """Every store and post of a request that fails, or is refused when it is taken, is a step of the table."""
    desk.submit(notify=NOTIFY_BELL)
    desk.take()
    desk.fail()
    state = walk(desk, State.CLAIMED)
    assert state is State.COMPLETED
    desk.completed.acquire(0)
    desk.submit(rows=5)
    desk.words[1] = 99  # no such signature
    assert desk.consumer.take() == 0
    assert not desk.broker.accept([], 1)
    assert walk(desk, state) is State.COMPLETED


def test_an_abandoned_call_goes_through_the_table(desk: Desk):
    """Once its caller has left, the broker's steps are those of the abandoned states."""
    desk.submit()
    state = after(walk(desk, State.CLAIMED), Step.ABANDON)
    desk.take()
    assert walk(desk, state) is State.ABANDONED_TAKEN
    desk.complete()
    state = walk(desk, State.ABANDONED_TAKEN)
    assert state is State.ABANDONED_COMPLETED
    desk.completed.acquire(0)
    assert np.isfinite(desk.worker.sequence)
    assert after(walk(desk, state), Step.RELEASE) is State.FREE
