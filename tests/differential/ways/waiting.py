"""Calls that their thread waits for: predict, requests in place, sessions, Keras; patient and in a hurry."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np

from tests.differential.caller import Caller, Question
from tests.differential.draw import Draw
from tests.differential.kinds.kind import Kind
from tests.differential.ways.way import MAIN, THREADS, Way, light
from tests.stress.verdicts import HURRIED


def predict(caller: Caller, kind: Kind, draw: Draw) -> None:
    model = caller.model(kind)
    for _ in range(1 + draw.below(4)):
        question = caller.ask(kind, draw)
        question.settle(lambda asked=question: model.predict(asked.inputs))


def request(caller: Caller, kind: Kind, draw: Draw) -> None:
    """Several runs in one block, read in place."""
    shapes = draw.again()
    first = caller.ask(kind, shapes.again())
    given = {name: np.shape(value) for name, value in first.inputs.items()}
    with caller.model(kind).request(rows=None, shapes=given) as block:
        question = first
        for left in range(draw.below(4), -1, -1):
            for name, value in question.inputs.items():
                block[name] = value
            question.settle(block.run)
            if left:
                question = caller.ask(kind, shapes.again())


def session_run(caller: Caller, kind: Kind, draw: Draw) -> None:
    session = caller.client.session(kind.model)
    for _ in range(1 + draw.below(2)):
        question = caller.ask(kind, draw)
        feeds = dict(zip(kind.feeds, question.inputs.values()))
        question.settle(lambda fed=feeds: _named(kind, session.run(list(kind.fetches), fed)))


def session_callable(caller: Caller, kind: Kind, draw: Draw) -> None:
    run = caller.client.session(kind.model).make_callable(list(kind.fetches), list(kind.feeds))
    for _ in range(1 + draw.below(3)):
        question = caller.ask(kind, draw)
        question.settle(lambda asked=question: _named(kind, run(*asked.inputs.values())))


def _named(kind: Kind, values: list[Any]) -> dict[str, Any]:
    return dict(zip((name.partition(":")[0] for name in kind.fetches), values))


def keras_predict(caller: Caller, kind: Kind, draw: Draw) -> None:
    """With a batch size, and sometimes only so many steps."""
    question = caller.ask(kind, draw)
    size = 1 + draw.below(5)
    rows = len(next(iter(question.inputs.values())))
    if not rows:
        return
    most = -(-rows // size)
    steps = 1 + draw.below(most) if draw.one_in(3) else None
    answered = question.inputs if steps is None else _first(question, steps * size)
    with caller.out_of_order():
        Question(caller, kind, answered).settle(
            lambda: caller.model(kind).predict(question.inputs, batch_size=size, steps=steps, verbose=0)
        )


def _first(question: Question, rows: int) -> dict[str, Any]:
    return {name: value[:rows] for name, value in question.inputs.items()}


def keras_call(caller: Caller, kind: Kind, draw: Draw) -> None:
    question = caller.ask(kind, draw)
    question.settle(lambda: caller.model(kind)(question.inputs, training=False))


def hurried(caller: Caller, kind: Kind, draw: Draw) -> None:
    """With timeouts of microseconds, or such as just do."""
    seconds = draw.seconds(1e-6, 6e-4) if not draw.one_in(4) else draw.seconds(1e-3, 0.1)
    question = caller.ask(kind, draw)
    with caller.within(seconds):
        try:
            question.settle(lambda: caller.model(kind).predict(question.inputs, timeout=seconds))
        except HURRIED as error:
            caller.count(f"in a hurry: {type(error).__name__}")


def copied(caller: Caller, kind: Kind, draw: Draw) -> None:
    """A handle that went through pickle or deepcopy."""
    handle = caller.model(kind)
    other = copy.deepcopy(handle) if draw.one_in(2) else pickle.loads(pickle.dumps(handle))
    question = caller.ask(kind, draw)
    question.settle(lambda: other.predict(question.inputs))


def close_between(caller: Caller, kind: Kind, draw: Draw) -> None:
    """The channel is given up between two calls, while other threads are in the middle of theirs."""
    predict(caller, kind, draw)
    with caller.closings.counted():
        caller.client.close()
    predict(caller, kind, draw)


WAYS = (
    Way("predict", 30, predict),
    Way("request", 14, request),
    Way("session_run", 2, session_run, THREADS, lambda kind: bool(kind.feeds)),
    Way("session_callable", 3, session_callable, THREADS, lambda kind: bool(kind.feeds)),
    Way("keras_predict", 4, keras_predict, fits=lambda kind: kind.rowwise and kind.name != "versioned"),
    Way("keras_call", 6, keras_call),
    Way("hurried", 8, hurried),
    Way("copied", 0.2, copied, THREADS, light),
    Way("close_between", 0.1, close_between, MAIN),
)
