"""A green program: `python -m tests.servers.green_program LIBRARY CASE ADDRESS GATE`; says "ok" if all is well."""

# ruff: noqa: E402 - patching comes first of all

import sys

from tests.servers.greenlets import patched

green = patched(sys.argv[1])

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

import worker_client
from tests.app_files import AppFiles, numbers
from tests.brokers import Gate
from worker_client import (
    BrokerError,
    BrokerUnavailable,
    Client,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    aio,
)

ROW = np.ones((1, 4), np.float32)
AT_ONCE = 100
FAR_MORE_S = 30.0

Case = Callable[[Client, Gate], None]


def gated(client: Client, number: int, x: float, **options: Any) -> float:
    inputs = {"number": np.array([number]), "x": np.array([x], np.float32)}
    return float(client.model("gated").predict(inputs, **options)["y"][0])


@contextlib.contextmanager
def ticker() -> Iterator[list[int]]:
    """A greenlet that counts, as long as nobody blocks the hub."""
    ticks = [0]

    def tick() -> None:
        while True:
            ticks[0] += 1
            green.sleep(0.001)

    greenlet = green.spawn(tick)
    try:
        yield ticks
    finally:
        green.kill(greenlet)


def until(condition: Callable[[], Any]) -> None:
    with green.timeout(FAR_MORE_S):
        while not condition():
            green.sleep(0.002)


def more_ticks(ticks: list[int]) -> None:
    before = ticks[0]
    until(lambda: ticks[0] > before + 20)


def slots_come_back(client: Client) -> None:
    """All of them are free: as many calls as there may be slots run at a time, and answer rightly."""

    def double(x: int) -> float:
        return float(client.model("double").predict(ROW * x)[0, 0])

    answers = green.wait_all([green.spawn(double, x) for x in range(AT_ONCE)])
    assert answers == [2.0 * x for x in range(AT_ONCE)]
    until(lambda: all(slot.deadline_ns > 1 << 62 and not slot.busy for slot in _channel(client).slots))


def _channel(client: Client) -> Any:
    client.model("double").predict(ROW)  # which takes back what was given up
    return client._connection.channel()


def many_at_once(client: Client, gate: Gate) -> None:
    with ticker() as ticks:
        done = []
        calls = [
            green.spawn(lambda x=x: done.append(gated(client, 5, x)) or done[-1]) for x in range(AT_ONCE)
        ]
        until(lambda: gate.entries(5))
        more_ticks(ticks)
        assert not done
        gate.open(5)
        assert green.wait_all(calls) == [2.0 * x for x in range(AT_ONCE)]


def given_up(client: Client, gate: Gate) -> None:
    """By its own timeout, by the library's, by kill(): each leaves nothing behind."""
    ends: list[BaseException] = []

    def killed() -> None:
        try:
            gated(client, 6, 1)
        except BaseException as error:
            ends.append(error)
            raise

    with ticker() as ticks:
        for _ in range(3):
            try:
                gated(client, 6, 1, timeout=0.05)
                raise AssertionError("no DeadlineExceeded")
            except DeadlineExceeded:
                pass
            try:
                with green.timeout(0.05):
                    gated(client, 6, 1)
                raise AssertionError("no Timeout")
            except green.timed_out:
                pass
            call = green.spawn(killed)
            more_ticks(ticks)
            green.kill(call)
            assert type(ends.pop()).__name__ == "GreenletExit"
        gate.open(6)
        slots_come_back(client)


def refused_and_failed(client: Client, gate: Gate) -> None:
    for wrong, error in ((np.ones((1, 5), np.float32), InvalidInput), (13 * ROW, ModelFailed)):
        try:
            client.model("picky").predict(wrong)
            raise AssertionError(f"no {error.__name__}")
        except error:
            pass
    slots_come_back(client)


def futures_and_requests(client: Client, gate: Gate) -> None:
    double = client.model("double")
    with ticker() as ticks:
        held = client.model("gated").submit({"number": np.array([7]), "x": np.array([3], np.float32)})
        late = client.model("gated").submit({"number": np.array([8]), "x": np.array([3], np.float32)}, 0.05)
        try:
            late.result(FAR_MORE_S)
            raise AssertionError("no DeadlineExceeded")
        except DeadlineExceeded:
            pass
        more_ticks(ticks)
        assert not held.done()
        gate.open(7)
        gate.open(8)
        assert held.result(FAR_MORE_S)["y"][0] == 6
        futures = [double.submit(ROW * x) for x in range(AT_ONCE)]
        assert [future.result(FAR_MORE_S)[0, 0] for future in futures] == [2.0 * x for x in range(AT_ONCE)]
        assert [y[0, 0] for y in double.map(ROW * x for x in range(20))] == [2.0 * x for x in range(20)]
        assert sorted(i for i, _ in double.map_unordered(ROW for _ in range(20))) == list(range(20))
        with double.request() as request:
            request["x"][...] = 21
            assert request.run()["y"][0, 0] == 42
        large = np.arange(400_000, dtype=np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(double.predict(large), 2 * large)
    slots_come_back(client)


def native_threads(client: Client, gate: Gate) -> None:
    """A call in the library's own pool of native threads may block: it is what that is for."""
    client.model("double").predict(ROW)
    answers = [
        green.in_native_thread(lambda x=x: float(client.model("double").predict(ROW * x)[0, 0]))
        for x in range(8)
    ]
    assert [answer() for answer in answers] == [2.0 * x for x in range(8)]


def native_threads_of_all_kinds(client: Client, gate: Gate) -> None:
    """Whatever asks the broker for more: large inputs and outputs, many slots, futures; and many calls at a time."""
    double = client.model("double")
    double.predict(ROW)
    if sys.argv[1] == "eventlet":  # which no native thread can ask for the greenlet that looks after futures
        double.submit(ROW).result(FAR_MORE_S)
    large = np.arange(1_000_000, dtype=np.float32).reshape(-1, 4)

    def call(number: int) -> bool:
        answers = [double.predict(ROW * x)[0, 0] for x in range(100)]
        grown = double.predict(large[: 20_000 * (number + 1)])
        later = double.submit(ROW * 7).result(FAR_MORE_S)[0, 0], [y[0, 0] for y in double.map([ROW, ROW * 2])]
        right = np.array_equal(grown, large[: len(grown)] * 2) and len(grown) == 20_000 * (number + 1)
        unordered = sorted(i for i, _ in double.map_unordered(ROW for _ in range(3)))
        return (
            answers == [2.0 * x for x in range(100)]
            and right
            and later == (14, [2, 4])
            and unordered == [0, 1, 2]
        )

    with ticker() as ticks:
        answers = [green.in_native_thread(lambda number=number: call(number)) for number in range(8)]
        greenlets = [green.spawn(lambda x=x: float(double.predict(ROW * x)[0, 0])) for x in range(AT_ONCE)]
        assert green.wait_all(greenlets) == [2.0 * x for x in range(AT_ONCE)]
        assert [answer() for answer in answers] == [True] * 8
        more_ticks(ticks)

    def too_late() -> None:
        with pytest.raises(DeadlineExceeded):
            gated(client, 9, 1, timeout=0.1)

    green.in_native_thread(too_late)()
    gate.open(9)
    if sys.argv[1] == "gevent":
        held = client.model("gated").submit({"number": np.array([11]), "x": np.array([1], np.float32)})

        def wait() -> None:
            with pytest.raises(CancelledError):
                held.result(FAR_MORE_S)

        waits = green.spawn(wait)
        until(lambda: held._condition._waiters)
        assert green.in_native_thread(held.cancel)()
        with green.timeout(FAR_MORE_S / 2):
            green.wait_all([waits])
        gate.open(11)
    green.in_native_thread(client.close)()
    slots_come_back(client)


def native_threads_first(client: Client, gate: Gate) -> None:
    """Nobody is attached: a greenlet of the main thread does it for them, or they are refused where none can be asked
    to. They are served in any case as soon as one has."""

    def call(x: int) -> float:
        return float(client.model("double").predict(ROW * x)[0, 0])

    if sys.argv[1] == "gevent":
        assert green.in_native_thread(lambda: call(1))() == 2
    else:
        green.in_native_thread(lambda: refused(call))()
        client.models()
    assert call(2) == 4
    assert green.in_native_thread(lambda: call(3))() == 6


def refused(call: Callable[[int], float]) -> None:
    with pytest.raises(BrokerUnavailable, match=r"call client\.models\(\) in a greenlet"):
        call(1)


def in_an_event_loop(client: Client, gate: Gate) -> None:
    """asyncio's own loop runs in a greenlet beside the others; uvloop would stop them all, and is refused."""

    async def program() -> None:
        async with aio.connect(sys.argv[3], timeout=FAR_MORE_S) as other:
            double = other.model("double")
            answers = await asyncio.gather(*[double.predict(ROW * x) for x in range(AT_ONCE)])
            assert [float(answer[0, 0]) for answer in answers] == [2.0 * x for x in range(AT_ONCE)]
            before = ticks[0]
            while ticks[0] <= before + 20:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def refused() -> None:
        async with aio.connect(sys.argv[3]) as other:
            for call in (other.models(), other.model("double").predict(ROW)):
                with pytest.raises(BrokerError, match="uvloop does not work with"):
                    await call

    with ticker() as ticks:
        asyncio.run(program())
    loop = uvloop.new_event_loop()
    loop.run_until_complete(refused())
    loop.close()


def closed_meanwhile(client: Client, gate: Gate) -> None:
    """The client is closed while greenlets wait for answers: each is told at once."""
    other = worker_client.connect(sys.argv[3], timeout=FAR_MORE_S)
    told = []

    def call() -> None:
        with pytest.raises(BrokerUnavailable, match="closed"):
            gated(other, 10, 1)
        told.append(True)

    calls = [green.spawn(call) for _ in range(10)]
    until(lambda: gate.entries(10))
    with green.timeout(FAR_MORE_S / 2):
        other.close()
        green.wait_all(calls)
    assert len(told) == 10
    gate.open(10)


def orphaned(client: Client, gate: Gate) -> None:
    """The broker is killed by the test once the call is inside: every waiting greenlet wakes."""
    client.retries = 0  # else they would wait for the next broker
    calls = [green.spawn(_unavailable, client) for _ in range(10)]
    with green.timeout(FAR_MORE_S):
        assert green.wait_all(calls) == [True] * 10


def _unavailable(client: Client) -> bool:
    try:
        gated(client, 9, 1)
    except BrokerUnavailable:
        return True
    return False


def attached_by_many(client: Client, gate: Gate) -> None:
    """The first calls of a process come at the same time: one attaches, the others wait for it."""
    slots_come_back(client)


def closed_descriptors(client: Client, gate: Gate) -> None:
    """The program closes each of the client's in turn, and opens files under the number."""
    green.sleep(0.01)  # so that the hub has its own
    which, more = 0, True
    before = numbers()
    while more:
        with worker_client.connect(sys.argv[3], timeout=FAR_MORE_S) as other:
            assert gated(other, 0, which) == 2 * which
            ours = sorted(numbers() - before)
            more = which < len(ours)
            if more:
                os.close(ours[which])
                which += 1
                theirs = AppFiles()
                slots_come_back(other)
                with pytest.raises(DeadlineExceeded):
                    gated(other, 100 + which, 1, timeout=0.1)
                gate.open(100 + which)
                assert other.model("double").submit(ROW).result(FAR_MORE_S)[0, 0] == 2
        if more:
            theirs.check()
        with contextlib.suppress(green.timed_out):
            until(lambda: numbers() <= before)
        left = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in numbers() - before}
        assert not left, f"{left} after descriptor {which}"
    assert which >= 4


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        many_at_once,
        given_up,
        refused_and_failed,
        futures_and_requests,
        native_threads,
        native_threads_of_all_kinds,
        native_threads_first,
        in_an_event_loop,
        closed_meanwhile,
        orphaned,
        attached_by_many,
        closed_descriptors,
    )
}


def main() -> None:
    case, address, gate = sys.argv[2:]
    with worker_client.connect(address, timeout=FAR_MORE_S) as client:
        CASES[case](client, Gate(Path(gate)))
    print("ok")


if __name__ == "__main__":
    main()
