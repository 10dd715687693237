"""One asyncio client in several event loops: async views in the threads of a server, and the like."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.brokers import TestBroker, serving, wait_until
from tests.process.calls.test_batching import in_flight
from tests.workers import in_child
from worker_client import BrokerError, BrokerUnavailable, DeadlineExceeded, Overloaded, aio

uvloop = pytest.importorskip("uvloop")
uvloop.new_event_loop().close()  # the first one opens a pipe that the process keeps

MODELS = ("double", "tell", "gated", "produce")
ROW = np.ones((1, 4), np.float32)
NUMBERS = itertools.count(1)

NewLoop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> Iterator[NewLoop]:
    yield uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    gc.collect()


def run(new_loop: NewLoop, program: Coroutine[Any, Any, Any]) -> Any:
    """In a loop of its own, to which the caller's thread belongs meanwhile."""
    loop = new_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(program, 60))
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class Runner:
    """A thread with a loop that runs until the block ends."""

    def __init__(self, new_loop: NewLoop) -> None:
        self.loop = new_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)

    def begin(self, program: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(program, self.loop)

    def run(self, program: Coroutine[Any, Any, Any]) -> Any:
        return self.begin(program).result(60)

    def __enter__(self) -> Runner:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.begin(self.loop.shutdown_default_executor()).result(60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def gated(number: int) -> dict[str, np.ndarray]:
    return {"number": np.array([number]), "x": np.ones(1, np.float32)}


async def ask(model: aio.AsyncModel, number: int) -> None:
    answer = await model.predict({"x": ROW, "row": np.array([number])}, timeout=50)
    np.testing.assert_array_equal(answer["y"], [[2.0 + number] * 4])


def test_a_loop_for_each_request(broker: TestBroker, new_loop: NewLoop) -> None:
    """As asgiref's `async_to_sync` makes them, in many threads: all are served, by one attachment."""
    client = aio.connect(broker.address)
    tell = client.model("tell")

    def thread(index: int) -> None:
        for number in range(30):
            run(new_loop, ask(tell, 1000 * index + number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(thread, range(8)))
    assert broker.workers().count(os.getpid()) == 1
    assert len(client._calls) <= 9  # of loops that have ended none is kept for long
    run(new_loop, client.close())


def test_loops_that_live_on(broker: TestBroker, new_loop: NewLoop) -> None:
    """Each with many tasks at a time, more than there are slots, and some with answers larger than a region."""
    client = aio.connect(broker.address)
    tell, produce = client.model("tell"), client.model("produce")

    async def one(number: int) -> None:
        if number % 40 == 7:
            assert (await produce.predict(np.array(9000 + number), timeout=50)).shape == (9000 + number,)
        else:
            await ask(tell, number)

    async def many(index: int) -> None:
        for _ in range(3):
            await asyncio.gather(*[one(1000 * index + number) for number in range(200)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: run(new_loop, many(index)), range(4)))
    assert broker.workers().count(os.getpid()) == 1
    run(new_loop, client.close())


def test_a_loop_that_blocks_delays_no_other(broker: TestBroker, new_loop: NewLoop) -> None:
    """Whether it came first, and listens for the channel, or later."""
    client = aio.connect(broker.address)
    model = client.model("double")
    with Runner(new_loop) as one, Runner(new_loop) as other:
        one.run(model.predict(ROW))
        other.run(model.predict(ROW))
        for blocked, free in ((one, other), (other, one)):
            go_on = threading.Event()
            blocked.loop.call_soon_threadsafe(go_on.wait, 60)
            for _ in range(20):
                np.testing.assert_array_equal(free.run(model.predict(ROW, timeout=30)), 2 * ROW)
            go_on.set()
        np.testing.assert_array_equal(one.run(model.predict(ROW)), 2 * ROW)
        one.run(client.close())


def test_deadlines_in_each_loop(new_loop: NewLoop) -> None:
    """Of what the broker has, and of what waits for a slot that another loop has."""
    with serving("gated", slots=1, max_slots=2) as broker:
        client = aio.connect(broker.address)
        model = client.model("gated")
        with Runner(new_loop) as one, Runner(new_loop) as other:
            one.run(model.predict(gated(0)))
            held = [one.begin(model.predict(gated(1))) for _ in range(2)]
            wait_until(lambda: in_flight(broker) == 2, "both slots in use")
            with pytest.raises(Overloaded, match="max_slots"):
                other.run(model.predict(gated(0), timeout=0.05))
            with pytest.raises(Overloaded, match="max_slots"):
                one.run(model.predict(gated(0), timeout=0.05))
            broker.gate.open(1)
            assert [future.result(60)["y"].tolist() for future in held] == [[2.0], [2.0]]
            for runner in (one, other):
                with pytest.raises(DeadlineExceeded):
                    runner.run(model.predict(gated(2), timeout=0.05))
            broker.gate.open(2)
            one.run(client.close())


def test_no_loop_is_passed_over(new_loop: NewLoop) -> None:
    """One with a long queue gives slots to one that has a single task."""
    with serving("tell", slots=1, max_slots=2) as broker:
        client = aio.connect(broker.address)
        tell = client.model("tell")
        enough = threading.Event()

        async def again_and_again(index: int) -> None:
            while not enough.is_set():
                await ask(tell, index)

        async def flood() -> None:
            await asyncio.gather(*[again_and_again(index) for index in range(50)])

        with Runner(new_loop) as one, Runner(new_loop) as other:
            one.run(ask(tell, 1))
            flooding = one.begin(flood())
            for number in range(50):
                other.run(ask(tell, number))
            enough.set()
            flooding.result(60)
            one.run(client.close())


def test_a_loop_that_is_closed_with_calls_under_way(new_loop: NewLoop) -> None:
    """Their slots come back, and the next loops have them; an open request's too, when it is collected."""
    with serving("gated", slots=2, max_slots=4) as broker:
        client = aio.connect(broker.address)
        model = client.model("gated")

        async def leave(number: int) -> None:
            tasks = [model.submit(gated(number)) for _ in range(2)]
            open_request = asyncio.ensure_future(run_request(number))
            while broker.gate.entries(number) < 1 or in_flight(broker) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            for task in (*tasks, open_request):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            left_behind.extend([*tasks, open_request])

        async def run_request(number: int) -> None:
            async with model.request(rows=1) as request:
                request["number"][...] = number
                request["x"][...] = 1
                await request.run()

        left_behind: list[Any] = []
        for number in (1, 2, 3):
            loop = new_loop()
            loop.run_until_complete(leave(number))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            broker.gate.open(number)
            left_behind.clear()
            wait_until(lambda: in_flight(broker) == 0, "the end of their runs")
            run(new_loop, model.predict(gated(0)))
            gc.collect()
        channel = model._model._binding.channel  # type: ignore[union-attr]
        channel._reap()
        assert len(channel._free) == len(channel.slots)
        run(new_loop, client.close())


def test_a_loop_that_is_closed_before_it_has_seen_its_answer(new_loop: NewLoop) -> None:
    """Nothing more comes for its call, and yet one that waits for the slot in another loop gets it."""
    with serving("gated", slots=1, max_slots=1) as broker:
        client = aio.connect(broker.address)
        model = client.model("gated")
        loop = new_loop()

        async def leave() -> None:
            task = model.submit(gated(1))
            while broker.gate.entries(1) < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            left_behind.append(task)
            task._log_destroy_pending = False  # type: ignore[attr-defined]

        left_behind: list[Any] = []
        with Runner(new_loop) as other:
            other.run(model.predict(gated(0)))
            loop.run_until_complete(leave())
            broker.gate.open(1)
            (slot,) = model._model._binding.channel.slots  # type: ignore[union-attr]
            wait_until(lambda: slot.done, "its answer")
            waiting = other.begin(model.predict(gated(0), timeout=50))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            assert waiting.result(60)["y"].tolist() == [2.0]
            other.run(client.close())


def test_a_loop_that_is_closed_while_it_asks_for_more_slots(new_loop: NewLoop) -> None:
    """What the broker gives then is there for the next loop."""
    with serving("gated", "double", slots=1, max_slots=2) as broker:
        client = aio.connect(broker.address)
        model = client.model("gated")
        left_behind: list[Any] = []

        async def leave() -> None:
            left_behind.append(model.submit(gated(1)))
            while broker.gate.entries(1) < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            broker.signal(signal.SIGSTOP)
            left_behind.append(model.submit(gated(1)))
            await asyncio.sleep(0)
            for task in left_behind:
                task._log_destroy_pending = False

        loop = new_loop()
        before = threading.active_count()
        loop.run_until_complete(leave())
        loop.close()
        broker.signal(signal.SIGCONT)
        wait_until(lambda: threading.active_count() <= before + 1, "the end of the thread that asked")
        broker.gate.open(1)
        left_behind.clear()
        channel = model._model._binding.channel  # type: ignore[union-attr]

        async def both() -> None:
            held = [model.submit(gated(2), timeout=30) for _ in range(2)]
            while in_flight(broker) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            broker.gate.open(2)
            await asyncio.gather(*held)
            await client.close()

        assert len(channel.slots) == 2
        run(new_loop, both())


def test_a_loop_without_threads(new_loop: NewLoop) -> None:
    """A call for which there is no slot yet says so at once; the others go on, and so do those after it."""
    with serving("gated", slots=1, max_slots=2) as broker:
        client = aio.connect(broker.address)
        model = client.model("gated")

        async def program() -> None:
            await model.predict(gated(0))
            await asyncio.get_running_loop().shutdown_default_executor()
            held = model.submit(gated(1))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="could not start a thread"):
                await model.predict(gated(0), timeout=50)
            broker.gate.open(1)
            assert (await held)["y"].tolist() == [2.0]
            assert (await model.predict(gated(0)))["y"].tolist() == [2.0]

        loop = new_loop()
        loop.run_until_complete(asyncio.wait_for(program(), 60))
        loop.close()
        run(new_loop, client.close())


class Interrupt(Exception):
    """What a signal's handler may raise, anywhere."""


class InterruptOnce:
    """In its block, the code that settles a loop's calls is left by an exception before its line number `line`."""

    def __init__(self, line: int) -> None:
        self.left = line

    def __enter__(self) -> InterruptOnce:
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: Any, event: str, argument: object) -> Any:
        names = ("_look", "_check_all", "_settle_all", "_check_at", "_settle", "answer")
        return (
            self._step
            if frame.f_code.co_name in names and "aio/calls.py" in frame.f_code.co_filename
            else None
        )

    def _step(self, frame: Any, event: str, argument: object) -> Any:
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise Interrupt
        return self._step


def test_an_interruption_anywhere(broker: TestBroker, new_loop: NewLoop) -> None:
    """A signal handler that raises while answers are looked at costs at most the call that is just looked at: the
    others do not wait for theirs until their deadline."""

    async def is_interrupted(line: int) -> bool:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        number = next(NUMBERS)
        async with aio.connect(broker.address, timeout=3600) as client:
            model = client.model("gated")
            await model.predict(gated(0))
            tasks = [model.submit(gated(number)) for _ in range(3)]
            broker.gate.open(number)
            with InterruptOnce(line) as interruption:
                answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
            lost = [answer for answer in answers if isinstance(answer, Interrupt)]
            assert len(lost) <= 1
            assert all(answer["y"].tolist() == [2.0] for answer in answers if answer not in lost)
        return interruption.left <= 0

    line = 1
    while run(new_loop, is_interrupted(line)):
        line += 1
    assert line > 10


def test_closed_from_another_loop(broker: TestBroker, new_loop: NewLoop) -> None:
    """Calls under way in every loop learn of it, and the next call attaches again."""
    client = aio.connect(broker.address)
    model = client.model("gated")
    number = next(NUMBERS)
    with Runner(new_loop) as one, Runner(new_loop) as other:
        for runner in (one, other):
            runner.run(model.predict(gated(0)))
        waiting = [runner.begin(model.predict(gated(number))) for runner in (one, other) for _ in range(3)]
        broker.gate.wait_for(number)
        other.run(client.close())
        for future in waiting:
            with pytest.raises(BrokerUnavailable, match="the client was closed"):
                future.result(60)
        broker.gate.open(number)
        for runner in (one, other):
            assert runner.run(model.predict(gated(0)))["y"].tolist() == [2.0]
        one.run(client.close())


def test_the_brokers_death_reaches_every_loop(new_loop: NewLoop) -> None:
    """Those calls that may be run again go on with the next broker, the others learn of it."""
    with serving("gated", supervise=True) as broker:
        client = aio.connect(broker.address)
        again, once = client.model("gated"), client.model("gated", retries=0)
        with Runner(new_loop) as one, Runner(new_loop) as other:
            for runner in (one, other):
                runner.run(again.predict(gated(0)))
            lost = [runner.begin(once.predict(gated(1))) for runner in (one, other)]
            kept = [runner.begin(again.predict(gated(1), timeout=60)) for runner in (one, other)]
            wait_until(lambda: in_flight(broker) == 4, "all under way")
            pid = broker.kill_engine()
            for future in lost:
                with pytest.raises(BrokerUnavailable):
                    future.result(60)
            broker.next_pid(pid)
            broker.gate.open(1)
            for future in kept:
                assert future.result(60)["y"].tolist() == [2.0]
            one.run(client.close())


def test_two_loops_and_a_fork(broker: TestBroker, new_loop: NewLoop) -> None:
    """The child's loops have a channel of their own; the parent's go on, with calls that were under way."""
    client = aio.connect(broker.address)
    model, double = client.model("gated"), client.model("double")
    number = next(NUMBERS)

    def child() -> None:
        with ThreadPoolExecutor(2) as pool:
            for answer in pool.map(lambda _: run(new_loop, double.predict(ROW)), range(6)):
                np.testing.assert_array_equal(answer, 2 * ROW)
        run(new_loop, client.close())

    with Runner(new_loop) as one, Runner(new_loop) as other:
        for runner in (one, other):
            runner.run(model.predict(gated(0)))
        waiting = [runner.begin(model.predict(gated(number))) for runner in (one, other)]
        broker.gate.wait_for(number)
        in_child(child)
        broker.gate.open(number)
        for future in waiting:
            assert future.result(60)["y"].tolist() == [2.0]
        one.run(client.close())


def test_no_loop_of_asyncios() -> None:
    """Under trio, and without any loop, the error says what to do instead."""
    trio = pytest.importorskip("trio")
    client = aio.connect("/nowhere/b.sock")

    async def program() -> None:
        with pytest.raises(BrokerError, match=r"under trio await what .*submit"):
            await client.model("double").predict(ROW)
        with pytest.raises(BrokerError, match=r"under trio await what .*submit"):
            await client.models()
        with pytest.raises(BrokerError, match=r"under trio await what .*submit"):
            await client.close()

    trio.run(program)
    with pytest.raises(BrokerError, match=r"without a loop call .*predict"):
        client.model("double").submit(ROW)
