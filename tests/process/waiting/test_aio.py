"""The client in an event loop: asyncio's own, and uvloop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving, wait_until
from tests.process.calls.test_batching import in_flight
from tests.workers import worker
from worker_client import (
    BrokerError,
    BrokerUnavailable,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    ModelNotFound,
    Overloaded,
    aio,
)

uvloop = pytest.importorskip("uvloop")
uvloop.new_event_loop().close()  # the first one opens a pipe that the process keeps

MODELS = ("double", "tell", "gated", "picky", "produce", "consume")
ROW = np.ones((1, 4), np.float32)

Program = Coroutine[Any, Any, None]
NUMBERS = itertools.count(1)  # of requests that wait at a gate: the broker serves all tests of the module


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Program], None]]:
    """Runs a coroutine to its end in a loop of this kind, within a minute."""
    new_event_loop = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(program: Program) -> None:
        loop = new_event_loop()
        try:
            loop.run_until_complete(asyncio.wait_for(program, 60))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    yield run
    gc.collect()


@pytest.fixture
def number(broker: TestBroker) -> Iterator[int]:
    """Of a request that waits at its gate until the test opens it, or has failed: later tests need the model, too."""
    number = next(NUMBERS)
    yield number
    broker.gate.open(number)


def gated(number: int, *values: float) -> dict[str, np.ndarray]:
    return {"number": np.full(len(values), number), "x": np.array(values, np.float32)}


async def until(condition: Callable[[], bool]) -> None:
    """Polls until the condition, which another process makes true, holds."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def test_calls_of_every_form(broker: TestBroker, run: Callable[[Program], None]) -> None:
    """predict, request, submit and map work, over plain and async iterables, and so does the model's metadata."""

    async def program() -> None:
        async with aio.connect(broker.address) as client:
            model = client.model("double")
            np.testing.assert_array_equal(await model.predict(ROW), 2 * ROW)
            assert (await model.signature()).inputs[0].name == "x"
            assert set(await client.models()) >= {"double", "tell"}
            async with model.request(rows=3) as request:
                for value in range(4):
                    request["x"][...] = value
                    np.testing.assert_array_equal((await request.run())["y"], np.full((3, 4), 2 * value))
                with pytest.raises(KeyError, match="no input 'y'; there are x"):
                    request["y"] = 1
            answers = await asyncio.gather(*[model.submit(ROW * value) for value in range(10)])
            np.testing.assert_array_equal(answers, [2 * ROW * value for value in range(10)])
            batches = [ROW * value for value in range(20)]
            plain = [answer async for answer in model.map(batches, max_in_flight=3)]
            async_ = [answer async for answer in model.map(each(batches), max_in_flight=3)]
            np.testing.assert_array_equal(plain, [2 * batch for batch in batches])
            np.testing.assert_array_equal(async_, plain)

    run(program())


async def each(items: list[np.ndarray]) -> AsyncIterator[np.ndarray]:
    for item in items:
        await asyncio.sleep(0)
        yield item


def test_a_thousand_at_a_time(broker: TestBroker, run: Callable[[Program], None], seed: int) -> None:
    """Far more tasks than slots: each gets its own answer, some of large inputs and outputs."""

    async def program() -> None:
        async with aio.connect(broker.address) as client:
            tell, consume, produce = (client.model(name) for name in ("tell", "consume", "produce"))
            rng = np.random.default_rng(seed)

            async def one(number: int) -> None:
                if number % 50 == 7:
                    answer = await consume.predict(np.ones(20_000 + number, np.uint8), timeout=50)
                    assert int(answer["n"]) == 20_000 + number
                elif number % 50 == 9:
                    assert (await produce.predict(np.array(9000 + number), timeout=50)).shape == (
                        9000 + number,
                    )
                else:
                    x = rng.standard_normal((1 + number % 3, 4)).astype(np.float32)
                    row = np.full(len(x), number)
                    answer = await tell.predict({"x": x, "row": row}, timeout=50)
                    np.testing.assert_array_equal(answer["y"], x * 2.0 + row[:, None])

            for _ in range(3):
                await asyncio.gather(*[one(number) for number in range(1000)])

    run(program())


def test_no_thread_for_each_call(broker: TestBroker, run: Callable[[Program], None], number: int) -> None:
    """Waiting calls take no thread, and the loop is not blocked. The client asks for slots in threads, so enough slots
    exist before threads are counted."""

    async def program() -> None:
        async with aio.connect(broker.address) as client:
            model, enough = client.model("gated"), next(NUMBERS)
            held = [model.submit(gated(enough, 1.0)) for _ in range(40)]
            await until(lambda: in_flight(broker) == 40)
            broker.gate.open(enough)
            await asyncio.gather(*held)
            before = threading.active_count()
            tasks = [model.submit(gated(number, 1.0)) for _ in range(40)]
            await until(lambda: broker.gate.entries(number) > 0)
            assert threading.active_count() <= before
            assert not any(task.done() for task in tasks)
            broker.gate.open(number)
            await asyncio.gather(*tasks)

    run(program())


def test_errors_are_the_sync_clients(broker: TestBroker, run: Callable[[Program], None], number: int) -> None:
    """Each call raises what `Model.predict` would, and the next one works."""

    async def program() -> None:
        async with aio.connect(broker.address) as client:
            with pytest.raises(ModelNotFound):
                await client.model("nobody").predict(ROW)
            with pytest.raises(InvalidInput):
                await client.model("double").predict(ROW.astype(np.complex64))
            with pytest.raises(ModelFailed):
                await client.model("picky").predict(13 * ROW)
            with pytest.raises(DeadlineExceeded):
                await client.model("gated").predict(gated(number, 1.0), timeout=0.05)
            with pytest.raises(InvalidInput, match="max_in_flight"):
                [_ async for _ in client.model("double").map([ROW], max_in_flight=0)]
            with pytest.raises(BrokerError, match="only inside its `async with` block"):
                await client.model("double").request().run()
            broker.gate.open(number)
            np.testing.assert_array_equal(await client.model("double").predict(ROW), 2 * ROW)
        with pytest.raises(BrokerUnavailable):
            await aio.connect(broker.address + ".nobody").model("double").predict(ROW)

    run(program())


def test_cancelling_a_task_cancels_its_request(
    broker: TestBroker, run: Callable[[Program], None], number: int
) -> None:
    """A cancelled request that has not begun does not run, and the slots come back."""

    async def program() -> None:
        async with aio.connect(broker.address) as client:
            model = client.model("gated")
            first = model.submit(gated(number, 1.0))
            await until(lambda: broker.gate.entries(number) > 0)
            rows = broker.counters("gated")["rows"]
            others = [model.submit(gated(0, 1.0)) for _ in range(20)]
            await asyncio.sleep(0.05)
            for task in others:
                task.cancel()
            results = await asyncio.gather(*others, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            broker.gate.open(number)
            await first
            await model.predict(gated(0, 1.0))
            assert broker.counters("gated")["rows"] == rows + 2

    run(program())


def test_tasks_that_wait_for_a_slot(run: Callable[[Program], None]) -> None:
    """They are served in turn; at their deadline they fail with Overloaded; cancelled, they pass their turn on."""

    async def program(broker: TestBroker) -> None:
        async with aio.connect(broker.address) as client:
            model = client.model("gated")
            held = [model.submit(gated(1, 1.0)) for _ in range(2)]
            await until(lambda: in_flight(broker) == 2)
            waiting = [model.submit(gated(0, float(n))) for n in range(6)]
            late = model.submit(gated(0, 1.0), timeout=0.05)
            with pytest.raises(Overloaded, match="max_slots"):
                await late
            waiting[0].cancel()
            waiting[3].cancel()
            broker.gate.open(1)
            await asyncio.gather(*held)
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            for number, answer in enumerate(answers):
                if number in (0, 3):
                    assert isinstance(answer, asyncio.CancelledError)
                else:
                    assert answer["y"].tolist() == [2.0 * number]  # type: ignore[index, call-overload]

    with serving("gated", slots=1, max_slots=2) as broker:
        run(program(broker))


def test_no_task_is_passed_over(broker: TestBroker, run: Callable[[Program], None]) -> None:
    """Of many tasks that call repeatedly, all progress equally: a later task waits for earlier ones."""

    async def program() -> None:
        async with aio.connect(broker.address) as client:
            model = client.model("double")
            calls = [0] * 300

            async def call_again_and_again(task: int) -> None:
                while max(calls) < 20:
                    np.testing.assert_array_equal(await model.predict(ROW * task), 2 * ROW * task)
                    calls[task] += 1

            await asyncio.gather(*[call_again_and_again(task) for task in range(len(calls))])
            assert min(calls) >= 15

    run(program())


def test_calls_given_up_at_any_moment(
    broker: TestBroker, run: Callable[[Program], None], rng: np.random.Generator
) -> None:
    """Calls cancelled before their turn, in the broker or when the answer is on its way disturb no other call and lose
    no slot."""

    async def program() -> None:
        async with aio.connect(broker.address) as client:
            tell = client.model("tell")

            async def one(number: int) -> None:
                row = np.full(2, number)
                answer = await tell.predict({"x": np.ones((2, 4), np.float32), "row": row})
                np.testing.assert_array_equal(answer["y"], 2.0 + row[:, None] * np.ones(4))

            for _ in range(5):
                tasks = [asyncio.ensure_future(one(number)) for number in range(300)]
                given_up = [tasks[number] for number in rng.permutation(300)[:150]]
                for task in given_up:
                    if rng.random() < 0.2:
                        await asyncio.sleep(0)
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                wrong = [r for r in results if r is not None and not isinstance(r, asyncio.CancelledError)]
                assert not wrong
            calls = client._calls[asyncio.get_running_loop()]
            await until(lambda: in_flight(broker) == 0)
            await tell.predict({"x": ROW, "row": np.array([1])})
            channel = calls.channel
            assert len(channel._free) + len(channel._abandoned) == len(channel.slots)

    run(program())


def test_the_brokers_death_wakes_every_task(run: Callable[[Program], None]) -> None:
    """Those that wait for an answer and those that wait for a slot, if they are not to be run again."""

    async def program(broker: TestBroker) -> None:
        async with aio.connect(broker.address, retries=0) as client:
            model = client.model("gated")
            tasks = [model.submit(gated(1, 1.0)) for _ in range(10)]
            await until(lambda: broker.gate.entries(1) > 0)
            await asyncio.get_running_loop().run_in_executor(None, broker.kill)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, BrokerUnavailable) for result in results), results

    with serving("gated", slots=2, max_slots=4) as broker:
        run(program(broker))


def test_each_loop_after_the_other(broker: TestBroker) -> None:
    """A client made before there is a loop serves one `asyncio.run` after the other."""
    client = aio.connect(broker.address)

    async def program() -> None:
        np.testing.assert_array_equal(await client.model("double").predict(ROW), 2 * ROW)

    asyncio.run(program())
    asyncio.run(program())

    async def close() -> None:
        await client.close()

    asyncio.run(close())


def test_a_client_made_before_a_fork(broker: TestBroker) -> None:
    """A client made before a fork serves the child's loop, as the handles of preloading servers must."""
    client = worker_client.aio.connect(broker.address)
    model = client.model("double")

    def child() -> bool:
        async def program() -> None:
            np.testing.assert_array_equal(await model.predict(ROW), 2 * ROW)
            await client.close()

        asyncio.run(program())
        return True

    with worker(child) as one, worker(child) as other:
        assert one.result()
        assert other.result()
    wait_until(lambda: os.getpid() not in broker.workers(), "nobody attached in the parent")
