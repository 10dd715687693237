"""Calls in an event loop, many at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from tests.differential.caller import Caller, Question
from tests.differential.draw import Draw
from tests.differential.kinds.kind import Kind
from tests.differential.ways.way import THREADS, Way
from tests.stress.verdicts import HURRIED
from worker_client import ModelFailed
from worker_client.aio import AsyncModel


def gathered(caller: Caller, kind: Kind, draw: Draw) -> None:
    """Tasks side by side, some of them cancelled."""
    with caller.out_of_order():
        caller.run(_gather(caller, kind, draw))


async def _gather(caller: Caller, kind: Kind, draw: Draw) -> None:
    model = _model(caller, kind)
    questions = [caller.ask(kind, draw) for _ in range(2 + draw.below(10))]
    tasks = [model.submit(question.inputs) for question in questions]
    if draw.one_in(3):
        await asyncio.sleep(0)
        given_up = draw.below(len(tasks))
        tasks.pop(given_up).cancel()
        questions.pop(given_up)
        caller.count("cancelled")
    try:
        for question, task in zip(questions, tasks):
            await _settle(question, task)
    finally:
        for task in tasks:
            task.cancel()


async def _settle(question: Question, coming: Any) -> None:
    try:
        answer = await coming
    except ModelFailed as error:
        question.settle(lambda failed=error: _fail(failed))
    else:
        question.settle(lambda: answer)


def _fail(error: Exception) -> None:
    raise error


def in_sequence(caller: Caller, kind: Kind, draw: Draw) -> None:
    """predict, one after the other, some in a hurry."""
    caller.run(_sequence(caller, kind, draw))


async def _sequence(caller: Caller, kind: Kind, draw: Draw) -> None:
    model = _model(caller, kind)
    for _ in range(1 + draw.below(6)):
        question = caller.ask(kind, draw)
        if not draw.one_in(4):
            await _settle(question, model.predict(question.inputs))
            continue
        seconds = draw.seconds(1e-6, 1e-3)
        with caller.within(seconds):
            try:
                await _settle(question, model.predict(question.inputs, timeout=seconds))
            except HURRIED as error:
                caller.count(f"in a hurry: {type(error).__name__}")


def requested(caller: Caller, kind: Kind, draw: Draw) -> None:
    """A request in place, several runs in one block."""
    caller.run(_request(caller, kind, draw))


async def _request(caller: Caller, kind: Kind, draw: Draw) -> None:
    shapes = draw.again()
    question = caller.ask(kind, shapes.again())
    given = {name: np.shape(value) for name, value in question.inputs.items()}
    async with _model(caller, kind).request(rows=None, shapes=given) as block:
        for left in range(draw.below(3), -1, -1):
            for name, value in question.inputs.items():
                block[name] = value
            await _settle(question, block.run())
            if left:
                question = caller.ask(kind, shapes.again())


def _model(caller: Caller, kind: Kind) -> AsyncModel:
    return caller.async_client.model(kind.model, signature=kind.signature)


WAYS = (
    Way("aio_gathered", 5, gathered, THREADS),
    Way("aio_in_sequence", 3, in_sequence, THREADS),
    Way("aio_request", 2, requested, THREADS),
)
