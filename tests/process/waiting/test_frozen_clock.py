"""Test suites that freeze the clock, and call a model: freezegun, time-machine, a patch by hand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from unittest import mock

import numpy as np
import pytest

import worker_client
from broker import Broker
from tests.brokers import TestBroker, folder, serving
from tests.process.models import sources
from tests.workers import in_child as in_forked_child
from worker_client import BrokerUnavailable, DeadlineExceeded, Overloaded, aio

MODELS = ("double", "gated")
ROW = np.ones((1, 4), np.float32)
LATE_S = 0.1
NUMBERS = itertools.count(1)

Frozen = Callable[[], "contextlib.AbstractContextManager[object]"]


def by_freezegun(date: str) -> Frozen:
    def frozen() -> contextlib.AbstractContextManager[object]:
        return pytest.importorskip("freezegun").freeze_time(date)

    return frozen


def by_time_machine() -> contextlib.AbstractContextManager[object]:
    travel: contextlib.AbstractContextManager[object] = pytest.importorskip("time_machine").travel(
        0, tick=False
    )
    return travel


@contextlib.contextmanager
def by_hand() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, now in (("monotonic", 60.0), ("monotonic_ns", 60_000_000_000), ("time", 60.0)):
            stack.enter_context(mock.patch(f"time.{name}", return_value=now))
        yield


WAYS = {
    "freezegun, the epoch": by_freezegun("1970-01-01 00:01:00"),
    "freezegun, far ahead": by_freezegun("2100-01-01"),
    "time-machine": by_time_machine,
    "mock.patch": by_hand,
}


@pytest.fixture(params=list(WAYS))
def frozen(request: pytest.FixtureRequest) -> Frozen:
    if request.param in ("time-machine", "freezegun, the epoch", "freezegun, far ahead"):
        pytest.importorskip(request.param.partition(",")[0].replace("-", "_"))
    return WAYS[request.param]


def in_child(function: Callable[[], None]) -> None:
    """Far from the frames of multiprocessing: freezegun freezes no clock for who is called by those."""
    in_forked_child(_deeper, function, 10)


def _deeper(function: Callable[[], None], depth: int) -> None:
    if depth:
        _deeper(function, depth - 1)
    else:
        function()


def gated(number: int) -> dict[str, np.ndarray]:
    return {"number": np.array([number]), "x": np.ones(1, np.float32)}


def test_calls_are_answered(broker: TestBroker, frozen: Frozen) -> None:
    """By a client made before and by one made in the frozen time, in each way to call."""

    def child() -> None:
        with worker_client.connect(broker.address) as before:
            before.model("double").predict(ROW)
            with frozen(), worker_client.connect(broker.address) as fresh:
                for client in (before, fresh):
                    model = client.model("double")
                    np.testing.assert_array_equal(model.predict(ROW, timeout=20), 2 * ROW)
                    np.testing.assert_array_equal(model.submit(ROW, timeout=20).result(20), 2 * ROW)
                    assert len(list(model.map([ROW] * 5, timeout=20))) == 5

    in_child(child)


def test_deadlines_pass(broker: TestBroker, frozen: Frozen) -> None:
    """Of calls, of futures, and of calls for a broker that is not there yet."""

    number = next(NUMBERS)

    def child() -> None:
        with worker_client.connect(broker.address) as client:
            model = client.model("gated")
            model.predict(gated(0))
            with frozen():
                with pytest.raises(DeadlineExceeded):
                    model.predict(gated(number), timeout=LATE_S)
                future = model.submit(gated(number), timeout=LATE_S)
                assert wait([future], 20).done
                assert isinstance(future.exception(0), DeadlineExceeded)
                with pytest.raises(BrokerUnavailable):
                    worker_client.connect(broker.address + ".none").model("double").predict(
                        ROW, timeout=LATE_S
                    )

    try:
        in_child(child)
    finally:
        broker.gate.open(number)


def test_event_loops(frozen: Frozen) -> None:
    """Answers and deadlines, of calls that wait for an answer, for a slot, and for another one to attach. The loop's
    own clock is frozen as well, so that its timers never end."""

    def child() -> None:
        with frozen():
            asyncio.run(program())

    async def program() -> None:
        async with aio.connect(broker.address) as client:
            double, model = client.model("double"), client.model("gated")
            for answer in await asyncio.gather(*[double.predict(ROW, timeout=20) for _ in range(20)]):
                np.testing.assert_array_equal(answer, 2 * ROW)
            held = [model.submit(gated(1), timeout=20) for _ in range(2)]
            while broker.gate.entries(1) < 1:  # noqa: ASYNC110
                await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await double.predict(ROW, timeout=LATE_S)
            broker.gate.open(1)
            await asyncio.gather(*held)
            with pytest.raises(DeadlineExceeded):
                await model.predict(gated(2), timeout=LATE_S)
            broker.gate.open(2)

    with serving("double", "gated", slots=1, max_slots=2) as broker:
        in_child(child)


def test_tasks_that_wait_for_another_to_attach(frozen: Frozen) -> None:
    """Each until its own deadline, while the broker does not answer."""

    def child() -> None:
        with frozen():
            asyncio.run(program())

    async def program() -> None:
        async with aio.connect(broker.address) as client:
            model = client.model("double")
            tasks = [model.submit(ROW, timeout=seconds) for seconds in (20, LATE_S)]
            with pytest.raises(DeadlineExceeded):
                await tasks[1]
            assert not tasks[0].done()
            os.kill(pid, signal.SIGCONT)
            np.testing.assert_array_equal(await tasks[0], 2 * ROW)

    with serving("double") as broker:
        pid = broker.pid
        broker.signal(signal.SIGSTOP)
        try:
            in_child(child)
        finally:
            broker.signal(signal.SIGCONT)


def test_a_broker_starts_and_starts_again(frozen: Frozen) -> None:
    """Its parent counts time for both, in the process whose clock is frozen."""

    def child() -> None:
        with folder() as path, frozen(), Broker(sources("double"), name=str(path / "b.sock")) as broker:
            model = worker_client.connect(broker.address).model("double")
            for _ in range(2):
                np.testing.assert_array_equal(model.predict(ROW, timeout=20), 2 * ROW)
                assert broker.pid is not None
                os.kill(broker.pid, signal.SIGKILL)

    in_child(child)


def test_what_the_patches_reach() -> None:
    """They do freeze what they are known to freeze; else the tests above would show nothing."""

    def child() -> None:
        freezegun = pytest.importorskip("freezegun")
        before = time.monotonic_ns()
        with freezegun.freeze_time("1970-01-01 00:01:00"):
            assert time.monotonic_ns() == 60_000_000_000
        assert time.monotonic_ns() >= before

    in_child(child)
