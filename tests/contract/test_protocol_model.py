"""The protocol's model, every interleaving of it: what holds, that mistakes are found, and that the code is like it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.protocol.explorer import Fault, Found, explore
from tests.contract.protocol.fields import Config
from tests.contract.protocol.model import Model
from tests.contract.protocol.mutations import MUTATIONS, Mutation
from tests.contract.protocol.threads.caller import Caller
from tests.contract.protocol.threads.program import Thread
from tests.contract.recording import Desk, Log
from worker_client.wire.layout import DONE, ENTRIES_WORD, HEAD_WORD, NOTIFY_BELL, SEQUENCE, TAIL_WORD

NORMAL = {
    "three calls": Config(requests=3),
    "calls that may time out": Config(requests=2, deadlines=True),
    "light and heavy models": Config(requests=3, heavy=True),
    "a broker that raises after an answer": Config(slots=1, requests=2, heavy=True, raises=1),
    "interrupted twice": Config(requests=3, interruptions=2),
    "interrupted at its deadline": Config(requests=2, deadlines=True, interruptions=1),
    "one slot, interrupted": Config(slots=1, requests=2, interruptions=1),
    "a killed worker": Config(requests=2, worker_kills=1),
    "a killed worker beside another": Config(workers=2, requests=1, worker_kills=1),
    "a stopped worker beside another": Config(workers=2, requests=1, worker_stops=1),
    "two workers": Config(workers=2, requests=2),
    "a stopped broker": Config(requests=2, deadlines=True, stops=1),
    "a killed broker": Config(requests=1, deadlines=True, broker_kills=1),
    "two threads, interrupted": Config(callers=2, requests=1, interruptions=1),
    "two threads, one slot": Config(callers=2, slots=1, requests=1, deadlines=True),
    "futures": Config(requests=2, futures=True, cancels=1),
    "futures that may time out": Config(slots=1, requests=2, futures=True, deadlines=True),
    "a call, then a future": Config(slots=1, requests=2, futures=True, mixed=True, deadlines=True),
    "futures, interrupted": Config(requests=2, futures=True, interruptions=1),
    "futures and a stopped broker": Config(requests=1, futures=True, deadlines=True, stops=1),
    "futures and a killed broker": Config(requests=2, futures=True, broker_kills=1),
    "futures and a killed worker": Config(requests=2, futures=True, worker_kills=1),
}
LARGE = {
    "three calls that may time out, interrupted": Config(requests=3, deadlines=True, interruptions=1),
    "a killed worker, timing out": Config(requests=2, deadlines=True, worker_kills=1),
    "a killed broker, timing out": Config(requests=2, deadlines=True, broker_kills=1),
    "two threads, one slot, interrupted": Config(
        callers=2, slots=1, requests=1, deadlines=True, interruptions=1
    ),
    "light and heavy models, timing out": Config(requests=3, heavy=True, deadlines=True),
    "two workers, one killed, heavy models": Config(workers=2, requests=1, heavy=True, worker_kills=1),
    "two workers, one killed, two calls": Config(workers=2, requests=2, worker_kills=1),
    "two threads, two calls": Config(callers=2, requests=2),
    "futures in two slots that may time out": Config(requests=2, futures=True, deadlines=True),
    "futures that time out, cancelled": Config(slots=1, requests=2, futures=True, deadlines=True, cancels=1),
    "futures interrupted, timing out": Config(
        slots=1, requests=2, futures=True, deadlines=True, interruptions=1
    ),
}


def tell(found: Found) -> None:
    print(f"{found.states:,} states, {found.moves:,} moves, at rest in {found.at_rest:,}")


@pytest.mark.parametrize("config", NORMAL.values(), ids=NORMAL)
def test_every_interleaving_is_right(config: Config):
    """In every interleaving no request is lost or run twice, no side touches a slot that the other side has, no thread
    sleeps while a request waits or is busy forever, and no post is left over."""
    tell(explore(Model(config)))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("config", LARGE.values(), ids=LARGE)
def test_every_interleaving_of_more_is_right(config: Config):
    """The same holds with more calls, workers and failures at a time."""
    tell(explore(Model(config), most=12_000_000))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mistake_is_found(mutation: Mutation):
    """Each mistake in the protocol is found, with the property that it breaks and the steps that lead there."""
    with pytest.raises(Fault) as fault:
        explore(mutation.model())
    first, *story = str(fault.value).splitlines()
    assert mutation.fault in first
    assert len(story) > 5


def test_a_model_that_is_too_large_is_told():
    """An exploration does not end as if it had seen everything when it has not."""
    with pytest.raises(AssertionError, match="more than 100 states"):
        explore(Model(Config()), most=100)


# -- the model and the code ----------------------------------------------------------------------------------------


def places_of(model: Model, thread: Thread, state: bytes, last: str) -> tuple[list[str], bytes]:
    """Let one thread go on, always by the last of what may come, until it has done `last`: the places it was at."""
    number = model.threads.index(thread)
    places: list[str] = []
    while not places or places[-1] != last:
        places.append(thread.at(state))
        mine = [after for _, (_, after) in model.moves_of(number, state)]
        assert mine, f"{thread.name} blocks at {places[-1]}"
        state = mine[-1]
    return places, state


SHARED: dict[str, tuple[str, Any]] = {
    "write_inputs": ("writes", "input"),
    "write_header": ("worker's slot stores", SEQUENCE),
    "enter": ("worker stores", ENTRIES_WORD),
    "show": ("worker stores", TAIL_WORD),
    "submit": ("posts", "submitted"),
    "ring": ("posts", "doorbell"),
    "scan": ("broker reads", TAIL_WORD),
    "take": ("acquires", "submitted"),
    "read_entry": ("broker reads", ENTRIES_WORD),
    "store_head": ("broker stores", HEAD_WORD),
    "accept": ("broker's slot reads", SEQUENCE),
    "fill": ("writes", "output"),
    "complete_line": ("broker's slot stores", DONE + 1),
    "store_done": ("broker's slot stores", DONE),
    "post_completed": ("posts", "completed"),
    "post_bell": ("posts", "bell"),
}
"""For each place whose step the code's recorded memory and semaphores show: what they show."""


def events_of(log: Log) -> list[tuple[str, Any]]:
    """The same of the code; the words of one line, one after the other, are one step of the model."""
    found: list[tuple[str, Any]] = []
    for what, which in log:
        event = what, which
        if what == "worker's slot stores":
            event = SHARED["write_header"]
        elif what == "broker's slot reads":
            event = SHARED["accept"]
        elif what == "answer stores":
            event = SHARED["fill"]
        elif what == "broker's slot stores" and which != DONE:
            event = SHARED["complete_line"]
        if not found or found[-1] != event:
            found.append(event)
    return found


def test_the_model_submits_as_the_code_does():
    """A call's stores and posts, from the inputs to the doorbell, are the model's, in its order."""
    model, desk = Model(Config(requests=1)), Desk()
    caller = model.callers[0]
    places, _ = places_of(model, caller, model.start(), last="ring")
    desk.submit()
    recorded = [event for event in events_of(desk.log) if event != SHARED["write_header"]]
    expected = [SHARED[place] for place in places if place in SHARED and place != "write_header"]
    assert recorded == expected
    assert desk.log.in_order(
        desk.log.where("worker's slot stores"),
        desk.log.where("worker stores", ENTRIES_WORD),
    )
    assert places.index("write_header") < places.index("enter")


def test_the_model_answers_as_the_code_does():
    """The intake's looks, acquires, stores and posts, from the tail to the bell, are the model's, in its order."""
    model, desk = Model(Config(requests=1, futures=True)), Desk()
    _, state = places_of(model, model.callers[0], model.start(), last="ring")
    desk.submit(notify=NOTIFY_BELL)
    desk.log.clear()
    taken, state = places_of(model, model.intake, state, last="accept")
    desk.take()
    assert events_of(desk.log) == [SHARED[place] for place in taken if place in SHARED]
    desk.log.clear()
    completed, state = places_of(model, model.intake, state, last="post_bell")
    desk.complete()
    assert events_of(desk.log) == [
        SHARED[place] for place in completed[completed.index("fill") :] if place in SHARED
    ]
    assert state[model.f.taken[0]] == 0
    assert not desk.broker.busy


def test_handlers_raise_after_calls_only():
    """The model's assumption about CPython holds: no signal handler runs between the stores of a push."""
    push = [place for place in Caller.PUSH if place in Caller.AFTER_CALLS]
    assert push == ["enter", "ring"]
