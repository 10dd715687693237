"""One process, one event loop, many tasks that each await `predict` in a closed loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from time import monotonic_ns
from typing import Any

import numpy as np

from benchmarks.arms.several_workers.brokered import address_in, arm_workers
from benchmarks.harness.timed import Answers, ArmWorker, ArmWorkers, Flow
from benchmarks.workloads import Workload
from broker import Broker
from worker_client import aio

GIVEN_OUT = 64
"""Answers that come before the loop is left, to have them checked: few, so that the broker does not run dry."""
LAST_ANSWERS_S = 20.0


class MissedCompletion(Exception):
    """A call that was begun did not come back."""


@contextmanager
def awaiting(
    workload: Workload,
    directory: str,
    models: dict[str, Any],
    model: str,
    tasks: int,
    loop: str,
    tune: str = "off",
) -> Iterator[ArmWorkers]:
    """`tasks` at a time in one loop, "asyncio" or "uvloop"."""
    with Broker(models=models, name=address_in(directory), tune=tune) as broker:
        caller = ArmWorker(partial(_opened, workload, broker.address, model, tasks, LOOPS[loop]), workload)
        yield arm_workers([caller], broker.address, model)


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": _uvloop,
}


@contextmanager
def _opened(
    workload: Workload,
    address: str,
    model: str,
    tasks: int,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> Iterator[Flow]:
    loop = new_loop()
    client = aio.connect(address)
    handle = client.model(model)
    try:
        loop.run_until_complete(handle.predict(workload.inputs[0]))
        assert "tensorflow" not in sys.modules
        yield Flow(lambda: _answers(loop, handle.predict, workload.inputs, tasks))
    finally:
        loop.run_until_complete(client.close())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _answers(
    loop: asyncio.AbstractEventLoop,
    predict: Callable[[np.ndarray], Any],
    inputs: list[np.ndarray],
    tasks: int,
) -> Answers:
    """The loop runs until some answers have come; then they are given out. Raises MissedCompletion."""
    done: list[tuple[int, int, int, np.ndarray]] = []
    numbers = count()
    clock = monotonic_ns
    going_on = True

    async def call_again_and_again() -> None:
        while going_on:
            index = next(numbers) % len(inputs)
            began = clock()
            answer = await predict(inputs[index])
            done.append((index, began, clock(), answer))
            if len(done) == GIVEN_OUT:
                stop()

    def stop(_: object = None) -> None:
        if going_on:
            loop.stop()

    running = [loop.create_task(call_again_and_again()) for _ in range(tasks)]
    for task in running:
        task.add_done_callback(stop)  # it has failed
    try:
        while True:
            loop.run_forever()
            given, done[:] = done[:], []
            yield from given
            _raise_first_error(running)
    finally:
        going_on = False
        _, pending = loop.run_until_complete(asyncio.wait(running, timeout=LAST_ANSWERS_S))
        if pending:
            raise MissedCompletion(
                f"{len(pending)} of {tasks} calls had not come back {LAST_ANSWERS_S:g} s later"
            )
        _raise_first_error(running)


def _raise_first_error(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()
