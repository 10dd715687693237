"""Supervised brokers killed under load: they come back, and callers notice only a delay."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, mappings_of, wait_until
from tests.process.models import BAD_VALUE
from tests.workers import Talk, worker, workers
from worker_client import BrokerUnavailable, Client, Model, aio

MODELS = ("double", "tell", "gated", "gated_produce", "deadly", "picky_heavy")
OPTIONS = {"supervise": True}
ROW = np.ones((1, 4), np.float32)
WORKERS = 3
KILLS = 3
WINDOW = 6


def gated(number: int, x: float = 1.0) -> dict[str, np.ndarray]:
    return {"number": np.array([number], np.int64), "x": np.array([x], np.float32)}


# -- under load ----------------------------------------------------------------------------------------------------


def check(answer: dict[str, np.ndarray], x: np.ndarray, number: int) -> None:
    np.testing.assert_array_equal(answer["y"], x * 2.0 + number)


def row(number: int) -> dict[str, np.ndarray]:
    return {"x": np.full((1, 4), number % 1000, np.float32), "row": np.array([number])}


def by_predict(client: Client, numbers: Iterator[int]) -> None:
    model = client.model("tell")
    for number in numbers:
        inputs = row(number)
        check(model.predict(inputs), inputs["x"], number)


def by_predict_heavy(client: Client, numbers: Iterator[int]) -> None:
    model = client.model("picky_heavy")
    for number in numbers:
        x = np.full((2, 4), 100 + number % 1000, np.float32)
        np.testing.assert_array_equal(model.predict(x), 2 * x)


def by_submit(client: Client, numbers: Iterator[int]) -> None:
    """A window of futures; the inputs are one array, rewritten for each future."""
    model = client.model("tell")
    inputs = row(0)
    pending: deque[tuple[int, Future[Any]]] = deque()
    for number in numbers:
        inputs["x"][...], inputs["row"][...] = number % 1000, number
        pending.append((number, model.submit(inputs)))
        while len(pending) >= WINDOW:
            oldest, future = pending.popleft()
            check(future.result(), row(oldest)["x"], oldest)
    for oldest, future in pending:
        check(future.result(), row(oldest)["x"], oldest)


def by_map(client: Client, numbers: Iterator[int]) -> None:
    model = client.model("tell")
    first = next(numbers)
    for number, answer in enumerate(model.map(map(row, numbers), max_in_flight=WINDOW), first + 1):
        check(answer, row(number)["x"], number)


def by_request(client: Client, numbers: Iterator[int]) -> None:
    with client.model("tell").request() as request:
        x, numbered = request["x"], request["row"]
        for number in numbers:
            x[...], numbered[...] = number % 1000, number
            check(dict(request.run()), row(number)["x"], number)


def by_tasks(client: Client, numbers: Iterator[int]) -> None:
    """A window of tasks of an event loop, and a request in place, on a client of their own."""

    async def program() -> None:
        async with aio.connect(client._connection.path, timeout=client.timeout) as loops:
            model = loops.model("tell")
            pending: deque[tuple[int, asyncio.Task[Any]]] = deque()
            async with model.request() as request:
                for number in numbers:
                    pending.append((number, model.submit(row(number))))
                    await asyncio.sleep(0)
                    while len(pending) >= WINDOW:
                        oldest, task = pending.popleft()
                        check(await task, row(oldest)["x"], oldest)
                    request["x"], request["row"] = number % 1000, number
                    check(dict(await request.run()), row(number)["x"], number)
            for oldest, task in pending:
                check(await task, row(oldest)["x"], oldest)

    asyncio.run(program())


WAYS: list[Callable[[Client, Iterator[int]], None]] = [
    by_predict,
    by_predict_heavy,
    by_submit,
    by_map,
    by_request,
    by_tasks,
]


def work(index: int, address: str, progress: memoryview, stop: memoryview) -> int:
    """One thread for each way of calling, all on one client, until told to stop; how many calls."""

    def numbers(way: int) -> Iterator[int]:
        while not stop[0]:
            progress[index * len(WAYS) + way] += 1
            yield progress[index * len(WAYS) + way]

    with worker_client.connect(address, timeout=100) as client, ThreadPoolExecutor(len(WAYS)) as pool:
        calls = [pool.submit(way, client, numbers(number)) for number, way in enumerate(WAYS)]
        for call in calls:
            call.result()
    return sum(progress[index * len(WAYS) :][: len(WAYS)])


@pytest.mark.slow
def test_killed_under_load_again_and_again(broker: TestBroker, rng: np.random.Generator) -> None:
    """Workers that call in every way while their broker is killed at random moments, serving or just starting, get
    every answer, each the right one."""
    shared = memoryview(mmap.mmap(-1, 4096)).cast("Q")
    progress, stop = shared[: WORKERS * len(WAYS)], shared[-1:]

    def all_went_on(since: list[int], calls: int) -> bool:
        return all(now >= before + calls for now, before in zip(progress, since))

    with workers(WORKERS, work, broker.address, progress, stop) as running:
        for _ in range(KILLS):
            # No call may meet two deaths: let each that met the last one be done.
            since = list(progress)
            wait_until(lambda since=since: all_went_on(since, 2 * WINDOW + 2), "progress everywhere")
            threading.Event().wait(float(rng.uniform(0, 0.05)))
            killed = broker.kill_engine()
            if rng.integers(2):
                os.kill(broker.next_pid(killed), signal.SIGKILL)
        since = list(progress)
        wait_until(lambda: all_went_on(since, 2 * WINDOW), "progress after the last death")
        stop[0] = 1
        for each in running:
            assert each.result() > 0


# -- each way of calling -------------------------------------------------------------------------------------------


def test_calls_of_every_kind_are_run_again(
    broker: TestBroker, client: Client, threads: ThreadPoolExecutor
) -> None:
    """Calls, requests and futures that are in a model when the broker is killed get their answers from the next
    broker."""

    def request(n: int) -> float:
        with client.model("gated").request(rows=1) as request:
            request["number"], request["x"] = n, n
            return float(request.run()["y"][0])

    model = client.model("gated")
    calls = [threads.submit(lambda n=n: float(model.predict(gated(n, n))["y"][0])) for n in range(1, 4)]
    calls += [threads.submit(request, n) for n in range(4, 7)]
    futures = [model.submit(gated(n, n)) for n in range(7, 10)]
    mapped = threads.submit(lambda: [y["y"][0] for y in model.map([gated(n, n) for n in range(10, 13)])])
    unordered = threads.submit(lambda: dict(model.map_unordered([gated(n, n) for n in range(13, 16)])))
    broker.wait_for_in_flight(15)
    broker.next_pid(broker.kill_engine())
    broker.gate.open()
    assert [call.result(60) for call in calls] == [2.0 * n for n in range(1, 7)]
    assert [future.result(60)["y"][0] for future in futures] == [2.0 * n for n in range(7, 10)]
    assert mapped.result(60) == [2.0 * n for n in range(10, 13)]
    assert {n: y["y"][0] for n, y in unordered.result(60).items()} == {0: 26, 1: 28, 2: 30}


def test_tasks_of_a_loop_are_run_again(broker: TestBroker) -> None:
    """Tasks that wait for an answer, for a slot, or write in place, get their answers from the next broker; inputs are
    those that were sent."""

    async def program() -> None:
        async with aio.connect(broker.address) as client:
            model = client.model("gated")
            inputs = gated(1, 0)
            tasks = []
            for n in range(20):
                inputs["x"][...] = n
                tasks.append(model.submit({name: array.copy() for name, array in inputs.items()}))
            async with model.request(rows=1) as request:
                x = request["x"]
                request["number"], x[...] = 1, 50
                tasks.append(asyncio.create_task(request.run()))
                await asyncio.to_thread(broker.wait_for_in_flight, 8)
                await asyncio.to_thread(broker.next_pid, broker.kill_engine())
                broker.gate.open()
                answers = await asyncio.gather(*tasks)
                assert [answer["y"][0] for answer in answers] == [*[2.0 * n for n in range(20)], 100.0]
                x[...] = 60
                assert (await request.run())["y"] == [120]

    asyncio.run(asyncio.wait_for(program(), 60))


def test_a_polite_stop_is_a_going_away_too(
    broker: TestBroker, client: Client, threads: ThreadPoolExecutor
) -> None:
    """A broker that is being stopped answers the requests that it has accepted; the next one answers later requests."""
    model = client.model("gated")
    accepted = threads.submit(model.predict, gated(1))
    broker.gate.wait_for(1)
    before = broker.pid
    os.kill(before, signal.SIGTERM)
    late = [threads.submit(client.model("double").predict, ROW * n) for n in range(3)]
    late += [client.model("double").submit(ROW * n) for n in range(3)]
    broker.gate.open(1)
    assert accepted.result(60)["y"] == [2]
    for n, call in enumerate(late):
        np.testing.assert_array_equal(call.result(60), ROW * 2 * (n % 3))
    broker.next_pid(before)
    np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
    assert broker.gate.entries(1) == 1


def test_first_calls_wait_for_a_broker_that_is_restarted(broker: TestBroker) -> None:
    """A worker that has never called, and comes while the broker is away, is answered by the next one."""
    broker.kill_engine()
    with worker_client.connect(broker.address) as client:
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


def test_a_grown_request_moves_to_the_next_broker(broker: TestBroker, client: Client) -> None:
    """Inputs and outputs larger than a new slot's regions are there again on the next broker."""
    model = client.model("gated_produce")
    future = model.submit({"number": np.int64(1), "n": np.int64(3_000_000)})
    rows = np.arange(80_000, dtype=np.float32).reshape(-1, 4)
    doubled = client.model("double")
    with doubled.request(rows=len(rows)) as request:
        request["x"] = rows
        broker.gate.wait_for(1)
        broker.kill_engine()
        broker.gate.open(1)
        np.testing.assert_array_equal(request.run()["y"], 2 * rows)
    assert len(future.result(60)["y"]) == 3_000_000


def test_a_requests_views_stay_those_the_caller_holds(broker: TestBroker, client: Client) -> None:
    """A caller keeps writing its inputs through a view that it took before the broker's death, run after run."""
    with client.model("tell").request() as request:
        x, number = request["x"], request["row"]
        for run in range(6):
            if run % 2:
                broker.next_pid(broker.kill_engine())
            x[...], number[...] = run, 10 * run
            result = request.run()
            np.testing.assert_array_equal(result["y"], np.full((1, 4), 12.0 * run))
    for value in range(20):
        np.testing.assert_array_equal(client.model("double").predict(ROW * value), ROW * 2 * value)


# -- what it costs, and whom ---------------------------------------------------------------------------------------


def call_deadly(client: Client, way: str) -> Any:
    model: Model = client.model("deadly")
    poison = ROW * BAD_VALUE
    if way == "predict":
        return model.predict(poison)
    if way == "submit":
        return model.submit(poison).result()
    with model.request() as request:
        request["x"] = poison
        return request.run()


@pytest.mark.parametrize(
    "way", ["predict", *[pytest.param(way, marks=pytest.mark.slow) for way in ("submit", "request")]]
)
def test_a_request_that_kills_the_broker_fails_after_one_more_run(
    broker: TestBroker, client: Client, way: str
) -> None:
    """A request whose model crashes the process costs at most two brokers; its caller gets an error that says why."""
    with pytest.raises(BrokerUnavailable, match=r"run once more \(retries=1\).*perhaps the request"):
        call_deadly(client, way)
    for value in range(10):
        np.testing.assert_array_equal(client.model("deadly").predict(ROW * value), ROW * 2 * value)
    assert broker.gate.deaths() == 2


def attach_and_hold(talk: Talk, address: str) -> None:
    client = worker_client.connect(address)
    with client.model("double").request() as request:
        request["x"] = 3
        first = request.run()["y"]
        talk.say(len(mappings_of(os.getpid(), address)))
        talk.hear()
        assert (first == 6).all()
        assert (request.run()["y"] == 6).all()
        talk.say()
        talk.hear()


def serves(broker: TestBroker) -> bool:
    """Its next process answers; while that loads its models, or none has the address, it does not."""
    try:
        return bool(broker.status()["pid"] == broker.pid)
    except BrokerUnavailable:
        return False


def test_the_next_broker_sweeps_though_workers_still_use_the_old_memory(broker: TestBroker) -> None:
    """A restart in place leaves the new doorbell's name only, while workers read results of the killed broker."""
    with worker(attach_and_hold, broker.address, talk=True) as holder:
        assert holder.hear() > 0
        old = broker.names()
        for _ in range(3):
            broker.next_pid(broker.kill_engine())
            wait_until(lambda: serves(broker), "the next broker to serve")
        holder.say()
        holder.hear()
        wait_until(lambda: len(broker.names()) == 1, "the new doorbell's name alone")
        assert broker.names() != old
        holder.say()
