"""A gevent program: `python -m tests.servers.green_program CASE ADDRESS GATE`; says "ok" if all is as it must be."""

# ruff: noqa: E402 - patching comes first of all

from gevent import monkey

monkey.patch_all()

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import numpy as np
from gevent.pool import Group

import worker_client
from tests.brokers import Gate
from worker_client import BrokerUnavailable, Client, DeadlineExceeded, InvalidInput, ModelFailed

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
            gevent.sleep(0.001)

    greenlet = gevent.spawn(tick)
    try:
        yield ticks
    finally:
        greenlet.kill()


def until(condition: Callable[[], Any]) -> None:
    with gevent.Timeout(FAR_MORE_S):
        while not condition():
            gevent.sleep(0.002)


def more_ticks(ticks: list[int]) -> None:
    before = ticks[0]
    until(lambda: ticks[0] > before + 20)


def slots_come_back(client: Client) -> None:
    """All of them are free: as many calls as there may be slots run at a time, and answer rightly."""
    answers = Group().map(lambda x: float(client.model("double").predict(ROW * x)[0, 0]), range(AT_ONCE))
    assert answers == [2.0 * x for x in range(AT_ONCE)]
    until(lambda: all(slot.deadline_ns > 1 << 62 and not slot.busy for slot in _channel(client).slots))


def _channel(client: Client) -> Any:
    client.model("double").predict(ROW)  # which takes back what was given up
    return client._connection.channel()


def many_at_once(client: Client, gate: Gate) -> None:
    with ticker() as ticks:
        calls = [gevent.spawn(gated, client, 5, x) for x in range(AT_ONCE)]
        until(lambda: gate.entries(5))
        more_ticks(ticks)
        assert not any(call.ready() for call in calls)
        gate.open(5)
        gevent.joinall(calls)
        assert [call.value for call in calls] == [2.0 * x for x in range(AT_ONCE)]


def given_up(client: Client, gate: Gate) -> None:
    """By its own timeout, by gevent's, by kill(): each leaves nothing behind."""
    with ticker() as ticks:
        for _ in range(3):
            try:
                gated(client, 6, 1, timeout=0.05)
                raise AssertionError("no DeadlineExceeded")
            except DeadlineExceeded:
                pass
            try:
                with gevent.Timeout(0.05):
                    gated(client, 6, 1)
                raise AssertionError("no Timeout")
            except gevent.Timeout:
                pass
            call = gevent.spawn(gated, client, 6, 1)
            more_ticks(ticks)
            call.kill()
            assert isinstance(call.value, gevent.GreenletExit)
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
        gate.open()
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
    """A call in gevent's thread pool may block: it is what that is for."""
    pool = gevent.get_hub().threadpool
    client.model("double").predict(ROW)
    answers = [pool.spawn(lambda x=x: float(client.model("double").predict(ROW * x)[0, 0])) for x in range(8)]
    assert [answer.get(timeout=FAR_MORE_S) for answer in answers] == [2.0 * x for x in range(8)]


def orphaned(client: Client, gate: Gate) -> None:
    """The broker is killed by the test once the call is inside: every waiting greenlet wakes."""
    client.retries = 0  # else they would wait for the next broker
    calls = [gevent.spawn(_unavailable, client) for _ in range(10)]
    with gevent.Timeout(FAR_MORE_S):
        gevent.joinall(calls)
    assert [call.value for call in calls] == [True] * 10


def _unavailable(client: Client) -> bool:
    try:
        gated(client, 9, 1)
    except BrokerUnavailable:
        return True
    return False


def attached_by_many(client: Client, gate: Gate) -> None:
    """The first calls of a process come at the same time: one attaches, the others wait for it."""
    slots_come_back(client)


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        many_at_once,
        given_up,
        refused_and_failed,
        futures_and_requests,
        native_threads,
        orphaned,
        attached_by_many,
    )
}


def main() -> None:
    case, address, gate = sys.argv[1:]
    with worker_client.connect(address, timeout=FAR_MORE_S) as client:
        CASES[case](client, Gate(Path(gate)))
    print("ok")


if __name__ == "__main__":
    main()
