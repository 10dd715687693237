"""Calls of which several are under way at a time: submit, cancelled or not, and map."""

from __future__ import annotations

from concurrent.futures import CancelledError

from tests.differential.caller import Caller, Wrong
from tests.differential.draw import Draw
from tests.differential.kinds.kind import Kind
from tests.differential.ways.way import Way, light
from tests.stress.verdicts import HURRIED


def submit(caller: Caller, kind: Kind, draw: Draw) -> None:
    """Futures whose answers are collected in another order than they were submitted."""
    model = caller.model(kind)
    questions = [caller.ask(kind, draw) for _ in range(1 + draw.below(6))]
    futures = [model.submit(question.inputs) for question in questions]
    with caller.out_of_order():
        while questions:
            number = draw.below(len(questions))
            questions.pop(number).settle(futures.pop(number).result)


def cancelled(caller: Caller, kind: Kind, draw: Draw) -> None:
    """Some futures are cancelled before, while or after they run; the answers to the others are collected."""
    model = caller.model(kind)
    questions = [caller.ask(kind, draw) for _ in range(2 + draw.below(4))]
    futures = [model.submit(question.inputs) for question in questions]
    with caller.out_of_order():
        for question, future in zip(questions, futures):
            if draw.one_in(2) and future.cancel():
                caller.count("cancelled")
                continue
            try:
                question.settle(future.result)
            except CancelledError:
                raise Wrong("a future that nobody cancelled is cancelled") from None


def hurried_futures(caller: Caller, kind: Kind, draw: Draw) -> None:
    model = caller.model(kind)
    seconds = draw.seconds(1e-6, 6e-4)
    questions = [caller.ask(kind, draw) for _ in range(1 + draw.below(3))]
    with caller.out_of_order():
        for question in questions:
            with caller.within(seconds):
                try:
                    question.settle(model.submit(question.inputs, timeout=seconds).result)
                except HURRIED as error:
                    caller.count(f"in a hurry: {type(error).__name__}")


def mapped(caller: Caller, kind: Kind, draw: Draw) -> None:
    model = caller.model(kind)
    questions = [caller.ask(kind, draw) for _ in range(4 + draw.below(24))]
    answers = model.map((one.inputs for one in questions), max_in_flight=1 + draw.below(8))
    with caller.out_of_order():
        for question in questions:
            question.settle(lambda: next(answers))
        if next(answers, None) is not None:
            raise Wrong(f"map has given more than {len(questions)} answers")


def mapped_unordered(caller: Caller, kind: Kind, draw: Draw) -> None:
    model = caller.model(kind)
    questions = dict(enumerate(caller.ask(kind, draw) for _ in range(4 + draw.below(24))))
    with caller.out_of_order():
        batches = (question.inputs for question in list(questions.values()))
        for index, answer in model.map_unordered(batches, max_in_flight=1 + draw.below(8)):
            questions.pop(index).settle(lambda given=answer: given)
        if questions:
            raise Wrong(f"map_unordered has left out {sorted(questions)}")


def map_left(caller: Caller, kind: Kind, draw: Draw) -> None:
    """Left after a few answers, with others still under way."""
    model = caller.model(kind)
    questions = [caller.ask(kind, draw) for _ in range(12)]
    answers = model.map((one.inputs for one in questions), max_in_flight=4)
    with caller.out_of_order():
        for question in questions[: 1 + draw.below(6)]:
            question.settle(lambda: next(answers))


def never_fails(kind: Kind) -> bool:
    """The first error ends a map."""
    return kind.name != "picky" and light(kind)


WAYS = (
    Way("submit", 10, submit),
    Way("cancelled", 4, cancelled),
    Way("hurried_futures", 3, hurried_futures),
    Way("mapped", 8, mapped, fits=never_fails),
    Way("mapped_unordered", 5, mapped_unordered, fits=never_fails),
    Way("map_left", 1, map_left, fits=never_fails),
)
