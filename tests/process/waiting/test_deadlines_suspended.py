"""A broker that is there and does nothing, by SIGSTOP: every call ends at its deadline, in its documented class.

How late is printed, and bounded only so that a wait with a limit of its own, or with none, is told from a slow machine.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving
from worker_client import BrokerError, BrokerUnavailable, Client, DeadlineExceeded, Overloaded
from worker_client.calls.channel import Channel
from worker_client.wire.signature import Signature

TIMEOUT = 1.0
ROW = np.ones((1, 4), np.float32)
LARGE = np.ones((50_000, 4), np.float32)  # larger than a slot that nobody has grown
DOCUMENTED = (DeadlineExceeded, Overloaded, BrokerUnavailable)
LATE_S = 15.0  # what is not late by so much waits for something else than its deadline
Call = Callable[[Client], object]


def request(client: Client) -> object:
    with client.model("double", timeout=TIMEOUT).request(rows=1) as made:
        made["x"] = ROW
        return made.run()


CALLS: dict[str, Call] = {
    "predict": lambda client: client.model("double").predict(ROW, timeout=TIMEOUT),
    "predict, large": lambda client: client.model("double").predict(LARGE, timeout=TIMEOUT),
    "submit": lambda client: client.model("double").submit(ROW, timeout=TIMEOUT).result(),
    "submit, large": lambda client: client.model("double").submit(LARGE, timeout=TIMEOUT).result(),
    "request": request,
    "map": lambda client: list(client.model("double").map([ROW] * 20, timeout=TIMEOUT)),
    "another signature": lambda client: client.model("tell", timeout=TIMEOUT).signature,
    "session": lambda client: client.session("double", timeout=TIMEOUT).run("y:0", {"x:0": ROW}),
    "models": lambda client: client.models(),
}


@pytest.fixture
def broker() -> Iterator[TestBroker]:
    with serving("double", "tell", slots=2, max_slots=64) as running:
        try:
            yield running
        finally:
            running.signal(signal.SIGCONT)


def end_of(call: Call, client: Client) -> tuple[object, float]:
    start = time.monotonic()
    try:
        outcome: object = call(client)
    except BrokerError as error:
        outcome = error
    return outcome, time.monotonic() - start


def outcomes(calls: list[Call], client: Client) -> list[object]:
    """The outcomes of calls made at the same time, each in its own thread."""
    found: list[tuple[object, float]] = []
    threads = [
        threading.Thread(target=lambda call=call: found.append(end_of(call, client)), daemon=True)
        for call in calls
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT + LATE_S)
    assert len(found) == len(calls), f"{len(calls) - len(found)} calls have no end"
    print(f"the last of {len(calls)} calls ended after {max(taken for _, taken in found):.2f} s of {TIMEOUT}")
    return [outcome for outcome, _ in found]


@pytest.mark.parametrize("threads", [1, 12, 64])
@pytest.mark.parametrize("attached", [True, False], ids=["attached", "not attached"])
def test_calls_of_every_kind_end(broker: TestBroker, attached: bool, threads: int) -> None:
    """One thread or many, more than there are slots; with and without a channel."""
    with worker_client.connect(broker.address, timeout=TIMEOUT) as client:
        if attached:
            client.model("double").predict(ROW, timeout=60)
        broker.signal(signal.SIGSTOP)
        kinds = list(CALLS.values())
        for outcome in outcomes([kinds[n % len(kinds)] for n in range(max(threads, len(kinds)))], client):
            if isinstance(outcome, (dict, Signature)):  # of which the worker was told before
                continue
            assert isinstance(outcome, DOCUMENTED), repr(outcome)


def test_calls_end_though_the_backlog_is_full(tmp_path: Path) -> None:
    """Nobody accepts connections, and the listener takes no more of them."""
    path = os.fspath(tmp_path / "b.sock")
    with ExitStack() as stack:
        listener, *waiting = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3))
        listener.bind(path)
        listener.listen(0)
        for each in waiting:
            each.setblocking(False)
        assert [each.connect_ex(path) for each in waiting] == [0, errno.EAGAIN]
        client = stack.enter_context(worker_client.connect(path, timeout=TIMEOUT))
        for outcome in outcomes([CALLS["predict"], CALLS["submit"], CALLS["models"]], client):
            assert isinstance(outcome, DOCUMENTED), repr(outcome)


def test_tasks_end(broker: TestBroker) -> None:
    """A hundred tasks of one event loop: of those that need more slots or larger ones none waits for another's."""

    async def go() -> list[object]:
        async with worker_client.aio.connect(broker.address) as client:
            model = client.model("double")
            await model.predict(ROW, timeout=60)
            broker.signal(signal.SIGSTOP)
            calls = [
                model.predict(LARGE if number % 3 == 0 else ROW, timeout=60 if number < 8 else TIMEOUT)
                for number in range(100)
            ]
            tasks = [asyncio.ensure_future(call) for call in calls]
            done, _ = await asyncio.wait(tasks[8:], timeout=TIMEOUT + LATE_S)
            for task in tasks[:8]:
                task.cancel()
            broker.signal(signal.SIGCONT)
            await asyncio.wait(tasks[:8])
            return [task.exception() for task in done]

    found = asyncio.run(go())
    assert len(found) == 92
    assert all(isinstance(error, DOCUMENTED) for error in found), found


def test_a_client_that_is_closed_while_it_asks_for_slots() -> None:
    """The tasks are told; nothing is logged of the thread that asked for them, and it keeps nothing."""
    told: list[str] = []

    async def go(broker: TestBroker) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        client = worker_client.aio.connect(broker.address, timeout=60)
        model = client.model("gated")
        first = asyncio.ensure_future(model.predict({"number": [1], "x": np.float32([1])}))
        await asyncio.to_thread(broker.gate.wait_for, 1)
        broker.signal(signal.SIGSTOP)
        second = asyncio.ensure_future(model.predict({"number": [2], "x": np.float32([1])}))
        while next(iter(client._calls.values()))._growing is None:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        await client.close()
        broker.signal(signal.SIGCONT)
        await asyncio.wait([first, second])
        assert [type(each.exception()) for each in (first, second)] == [BrokerUnavailable] * 2

    with serving("gated", slots=1, max_slots=4) as broker:
        asyncio.run(go(broker))
        gc.collect()
    assert told == []


def test_a_full_socket_holds_up_nobody(broker: TestBroker) -> None:
    """What the broker does not read does not block who writes to it past a call's deadline."""
    with worker_client.connect(broker.address) as client:
        client.model("double").predict(ROW)
        channel: Channel = client.model("double").bound_by(None)[0].channel
        broker.signal(signal.SIGSTOP)
        while True:  # the like of which thousands of calls leave behind
            channel._link._sock.sock.setblocking(False)
            try:
                channel._link._sock.sock.send(b"\0" * 4096)
            except BlockingIOError:
                break
        channel._link._sock.sock.setblocking(True)
        for outcome in outcomes([CALLS["predict, large"]] * 12 + [CALLS["predict"]] * 12, client):
            assert isinstance(outcome, DOCUMENTED), repr(outcome)


@pytest.mark.parametrize("how", ["submit", "task"])
def test_an_answer_whose_region_does_not_come_holds_up_no_other(how: str) -> None:
    """The broker's control thread is stuck, so that larger regions are not sent: calls with less time end before those
    with more."""
    with serving("produce", "double") as broker, worker_client.connect(broker.address) as client:
        client.model("produce").predict(np.array(1))
        client.model("double").predict(ROW)
        withheld: list[object] = []
        keep = Channel.accept_output
        Channel.accept_output = lambda self, message, fd: withheld.append((self, message, fd))  # type: ignore[method-assign]
        try:
            ended: list[str] = []
            if how == "submit":
                slow = client.model("produce").submit(np.array(1 << 20), timeout=60)
                fast = client.model("produce").submit(np.array(1 << 21), timeout=TIMEOUT)
                assert client.model("double").submit(ROW).result(30).tolist() == (2 * ROW).tolist()
                with pytest.raises(DeadlineExceeded):
                    fast.result(TIMEOUT + LATE_S)
                assert not slow.done()
            else:
                ended = asyncio.run(_tasks(broker))
                assert ended == ["double", "fast"]
        finally:
            Channel.accept_output = keep  # type: ignore[method-assign]
        for channel, message, fd in withheld:  # type: ignore[misc]
            channel.accept_output(message, fd)
        if how == "submit":
            assert len(slow.result(30)) == 1 << 20


async def _tasks(broker: TestBroker) -> list[str]:
    """In which order they end: one that needs a region, has a minute and is cancelled; the same with less time; and
    one that needs none."""
    ended: list[str] = []
    async with worker_client.aio.connect(broker.address) as client:
        await client.model("produce").predict(np.array(1))
        slow = asyncio.ensure_future(client.model("produce").predict(np.array(1 << 20), timeout=60))
        fast = asyncio.ensure_future(client.model("produce").predict(np.array(1 << 21), timeout=TIMEOUT))
        fast.add_done_callback(lambda _: ended.append("fast"))
        await client.model("double").predict(ROW, timeout=30)
        ended.append("double")
        await asyncio.wait([fast], timeout=TIMEOUT + LATE_S)
        assert isinstance(fast.exception(), DeadlineExceeded)
        assert not slow.done()
        slow.cancel()
        await asyncio.wait([slow])
    return ended
