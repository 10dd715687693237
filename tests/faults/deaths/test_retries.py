"""Brokers without a supervisor: which calls wait for a broker that went away, for how long, and which errors they
raise."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client
from broker import signature
from tests import brokers
from tests.brokers import serving, wait_until
from tests.workers import Talk, worker
from worker_client import BrokerUnavailable, Client, DeadlineExceeded, InvalidInput, ModelNotFound, aio

ROW = np.ones((1, 4), np.float32)
PATIENCE_S = 60.0


@pytest.fixture
def path() -> Iterator[Path]:
    """An address; brokers come and go there."""
    with brokers.folder() as place:
        yield place / "b.sock"


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    with worker_client.connect(path, timeout=PATIENCE_S) as client:
        yield client


def gated(number: int, x: float = 1.0) -> dict[str, np.ndarray]:
    return {"number": np.array([number], np.int64), "x": np.array([x], np.float32)}


def check(client: Client, value: float) -> None:
    np.testing.assert_array_equal(client.model("double").predict(ROW * value), ROW * 2 * value)


def meet_and_lose(path: Path, client: Client) -> None:
    """After this the client has met a broker, and knows that there is none: a request can be made until it does."""
    with serving("double", path=path) as broker:
        check(client, 1.0)
        channel = client.model("double").bound_by(None)[0].channel
        broker.kill()
        wait_until(lambda: not channel.open, "the news of the broker's end")


def still_waits(*calls: Future[Any]) -> bool:
    return not wait(calls, timeout=0.3).done


WAYS: dict[str, Callable[[Client], Any]] = {
    "predict": lambda client: client.model("double").predict(ROW),
    "submit": lambda client: client.model("double").submit(ROW).result(),
    "request": lambda client: client.model("double").request(rows=1),
    "map": lambda client: list(client.model("double").map([ROW])),
    "models": lambda client: client.models(),
    "signature": lambda client: client.model("double").signature,
}


# -- who waits -----------------------------------------------------------------------------------------------------


def test_calls_wait_for_a_broker_they_had(path: Path, client: Client, threads: ThreadPoolExecutor) -> None:
    """Calls of every kind that come while the broker is away are answered by the next one at the address."""
    meet_and_lose(path, client)
    calls = [threads.submit(way, client) for way in WAYS.values()]
    assert still_waits(*calls)
    with serving("double", path=path):
        for call in calls:
            call.result(PATIENCE_S)


@pytest.mark.parametrize("way", WAYS)
def test_a_first_call_where_no_broker_is_fails_at_once(client: Client, path: Path, way: str) -> None:
    """A first call does not wait for a broker that was never there; the error names address and remedy."""
    with pytest.raises(BrokerUnavailable, match="Start one with `onesession serve") as caught:
        WAYS[way](client)
    assert str(path) in str(caught.value)
    assert "was not back" not in str(caught.value), "it did not wait"


@pytest.mark.parametrize("way", WAYS)
def test_a_broker_that_does_not_come_back_is_told_at_the_deadline(path: Path, way: str) -> None:
    """No DeadlineExceeded: it is the broker that is missing, and the error names address and remedy."""
    with worker_client.connect(path, timeout=PATIENCE_S) as client:
        meet_and_lose(path, client)
        client.timeout = 0.2
        with pytest.raises(
            BrokerUnavailable, match=r"did not come back within.*Start one with `onesession serve"
        ) as caught:
            WAYS[way](client)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_retries_0_tells_at_once(path: Path, way: str) -> None:
    """With `retries=0` a call neither waits nor is run again."""
    with worker_client.connect(path, timeout=PATIENCE_S, retries=0) as client:
        meet_and_lose(path, client)
        with pytest.raises(BrokerUnavailable, match="onesession serve") as caught:
            WAYS[way](client)
        assert "was not back" not in str(caught.value)


def test_a_broker_long_gone_is_not_waited_for(
    path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that begins half a minute after the broker went away fails at once; the next broker is found."""
    meet_and_lose(path, client)
    monkeypatch.setattr("worker_client.connection._RETURN_NS", 1)
    for way in WAYS.values():
        with pytest.raises(BrokerUnavailable) as caught:
            way(client)
        assert "was not back" not in str(caught.value)
    with serving("double", path=path):
        check(client, 2.0)


def test_a_model_may_say_that_its_calls_are_not_run_twice(path: Path, client: Client) -> None:
    """`model(retries=0)` is for that model only."""
    once = client.model("gated", retries=0)
    with serving("gated", "double", path=path) as broker, ThreadPoolExecutor() as pool:
        call, future = pool.submit(once.predict, gated(1)), once.submit(gated(2))
        again = pool.submit(client.model("gated").predict, gated(3, 5))
        broker.wait_for_in_flight(3)
        broker.kill()
        for lost in (call, future):
            assert "went away while the call was under way" in str(lost.exception(PATIENCE_S))
        with serving("gated", path=path) as next_broker:
            next_broker.gate.open()
            assert again.result(PATIENCE_S)["y"] == [10]


@pytest.mark.parametrize("retries", [-1, 1.5, True, "1", None])
def test_retries_that_cannot_be_are_refused(path: Path, retries: Any) -> None:
    """`retries` must be an integer >= 0."""
    with pytest.raises(InvalidInput, match="retries must be"):
        worker_client.connect(path, retries=retries)


def test_a_forked_child_waits_like_its_parent(path: Path, client: Client) -> None:
    """A worker forked by a process that has met the broker waits for it, even if it has never called itself."""

    def child(talk: Talk) -> None:
        talk.say()
        check(client, 3.0)

    meet_and_lose(path, client)
    with worker(child, talk=True) as forked:
        forked.hear()
        with serving("double", path=path):
            forked.result()


def test_an_address_that_is_no_brokers_is_not_waited_for(client: Client, path: Path) -> None:
    """A first call to a listener that hangs up fails with an error that says so, and does not try until its
    deadline."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def hang_up() -> None:
            for _ in range(2):
                listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(BrokerUnavailable, match="went away"):
            check(client, 1.0)
        thread.join()


# -- one deadline does not wait for another ------------------------------------------------------------------------


def test_a_thread_that_attaches_holds_up_nobody(path: Path, threads: ThreadPoolExecutor) -> None:
    """While one thread waits for a suspended broker to attach, others end at their own deadlines."""
    with serving("double", path=path) as broker, worker_client.connect(path, timeout=PATIENCE_S) as client:
        broker.signal(signal.SIGSTOP)
        try:
            patient = threads.submit(check, client, 1.0)
            wait_until(lambda: client._connection._attaching, "the thread to attach")
            for timeout in (0.01, 0.1):
                with pytest.raises(DeadlineExceeded):
                    client.model("double").predict(ROW, timeout=timeout)
            assert not patient.done()
        finally:
            broker.signal(signal.SIGCONT)
        patient.result(PATIENCE_S)


def test_threads_wait_for_the_broker_each_until_its_own_deadline(
    path: Path, client: Client, threads: ThreadPoolExecutor
) -> None:
    """Of threads that wait for the next broker, calls with short timeouts fail and those with long ones are
    answered."""
    meet_and_lose(path, client)
    model = client.model("double")
    long = [threads.submit(model.predict, ROW * n) for n in range(4)]
    short = [threads.submit(model.predict, ROW, timeout=0.05 * n) for n in range(1, 5)]
    for call in short:
        assert isinstance(call.exception(PATIENCE_S), BrokerUnavailable)
    assert still_waits(*long)
    with serving("double", path=path):
        for n, call in enumerate(long):
            np.testing.assert_array_equal(call.result(PATIENCE_S), ROW * 2 * n)


def test_futures_wait_each_until_its_own_deadline(path: Path, client: Client) -> None:
    """Of futures whose broker was killed, those with short timeouts fail in time and the next broker answers the
    others."""
    model = client.model("gated")
    with serving("gated", path=path) as broker:
        long = [model.submit(gated(n, n)) for n in range(1, 4)]
        short = [model.submit(gated(n), timeout=2 + 0.1 * n) for n in range(4, 8)]
        broker.wait_for_in_flight(7)
        broker.kill()
    for future in short:
        assert isinstance(future.exception(PATIENCE_S), BrokerUnavailable)
    assert not any(future.done() for future in long)
    with serving("gated", path=path) as broker:
        broker.gate.open()
        assert [future.result(PATIENCE_S)["y"] for future in long] == [[2], [4], [6]]


def test_tasks_wait_each_until_its_own_deadline(path: Path) -> None:
    """Of tasks that wait for the next broker, those with short timeouts fail and the others are answered; the loop is
    not blocked."""

    async def program() -> None:
        async with aio.connect(path, timeout=PATIENCE_S) as client:
            model = client.model("double")
            with serving("double", path=path) as broker:
                await model.predict(ROW)
                await asyncio.to_thread(broker.kill)
            long = [model.submit(ROW * n) for n in range(4)]
            await asyncio.sleep(0.05)
            short = [model.submit(ROW, timeout=0.1 * n) for n in range(1, 4)]
            for answer in await asyncio.gather(*short, return_exceptions=True):
                assert isinstance(answer, BrokerUnavailable)
            assert not any(task.done() for task in long)
            with serving("double", path=path):
                np.testing.assert_array_equal(await asyncio.gather(*long), [ROW * 2 * n for n in range(4)])

    asyncio.run(asyncio.wait_for(program(), PATIENCE_S))


def test_closing_an_async_client_ends_every_wait(path: Path) -> None:
    """Tasks that wait for the next broker fail when their client is closed."""

    async def program() -> None:
        client = aio.connect(path, timeout=PATIENCE_S)
        with serving("gated", path=path) as broker:
            tasks = [client.model("gated").submit(gated(1)) for _ in range(3)]
            await asyncio.to_thread(broker.gate.wait_for, 1)
            await asyncio.to_thread(broker.kill)
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)
        await client.close()
        for answer in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(answer, BrokerUnavailable)
            assert "was closed" in str(answer)

    asyncio.run(asyncio.wait_for(program(), PATIENCE_S))


def test_a_future_that_waits_for_a_broker_can_be_cancelled(path: Path, client: Client) -> None:
    """Cancelling needs no broker, tells those who wait for the future, and the call is not run again."""
    model = client.model("gated")
    with serving("gated", path=path) as broker:
        dropped, kept = model.submit(gated(1)), model.submit(gated(2))
        broker.kill()
    wait_until(lambda: client._connection.reruns._current, "the wait for the next broker")
    assert dropped.cancel()
    assert wait([dropped], timeout=PATIENCE_S).done == {dropped}
    with serving("gated", path=path) as broker:
        broker.gate.open()
        assert kept.result(PATIENCE_S)["y"] == [2]
        assert (broker.gate.entries(1), broker.gate.entries(2)) == (0, 1)


def test_futures_are_run_again_with_the_inputs_they_had(path: Path, client: Client) -> None:
    """A retry uses the inputs as of `submit`, even if the caller has changed its array since."""
    model, inputs = client.model("gated"), gated(1, 0)
    with serving("gated", path=path) as broker:
        futures = []
        for value in range(5):
            inputs["x"][...] = value
            futures.append(model.submit(inputs))
        inputs["x"][...] = 1000
        broker.gate.wait_for(1)
        broker.kill()
    with serving("gated", path=path) as broker:
        broker.gate.open()
        assert [future.result(PATIENCE_S)["y"] for future in futures] == [0, 2, 4, 6, 8]


# -- ends of waiting -----------------------------------------------------------------------------------------------


def test_closing_the_client_ends_every_wait(path: Path, threads: ThreadPoolExecutor) -> None:
    """Calls and futures that wait for a broker fail when their client is closed, and nothing attaches again."""
    client = worker_client.connect(path, timeout=PATIENCE_S)
    with serving("gated", path=path) as broker:
        future = client.model("gated").submit(gated(1))
        broker.gate.wait_for(1)
        broker.kill()
    calls = [threads.submit(client.model("gated").predict, gated(2)) for _ in range(3)]
    assert still_waits(future, *calls)
    client.close()
    for call in [future, *calls]:
        assert "the client was closed" in str(call.exception(PATIENCE_S))
    with serving("gated", path=path) as broker:
        time.sleep(0.1)
        assert broker.workers() == []


def test_closing_the_client_ends_a_wait_for_an_answer(path: Path, threads: ThreadPoolExecutor) -> None:
    """Closing the client also ends a wait for a listener that does not answer."""
    client = worker_client.connect(path, timeout=PATIENCE_S)
    with serving("double", path=path) as broker:
        broker.signal(signal.SIGSTOP)
        try:
            call = threads.submit(check, client, 1.0)
            wait_until(lambda: client._connection._link and client._connection._link._waiting, "attaching")
            client.close()
            assert isinstance(call.exception(PATIENCE_S), BrokerUnavailable)
        finally:
            broker.signal(signal.SIGCONT)


@signature(inputs={"x": ("float32", [None, 2])}, outputs={"y": ("float32", [None, 2])})
def narrower(x: np.ndarray) -> np.ndarray:
    return x * 2


def test_the_next_broker_may_have_other_models(
    path: Path, client: Client, threads: ThreadPoolExecutor
) -> None:
    """A call fails with a clear error if the next broker lacks the model or has one with other inputs."""
    with serving("gated", "double", path=path) as broker:
        call, future = (
            threads.submit(client.model("gated").predict, gated(1)),
            client.model("gated").submit(gated(2)),
        )
        request = client.model("double").request().__enter__()
        broker.wait_for_in_flight(2)
        broker.kill()
    with serving(models={"double": f"{__name__}:narrower"}, path=path):
        for lost in (call, future):
            assert isinstance(lost.exception(PATIENCE_S), ModelNotFound)
        with pytest.raises(BrokerUnavailable, match="other inputs or outputs"):
            request.run()
        with pytest.raises(InvalidInput, match="expects shape"):
            client.model("double").predict(ROW)
        request.__exit__(None, None, None)


def test_a_callback_may_call_again_while_the_broker_is_away(path: Path, client: Client) -> None:
    """A callback that makes a call gets its answer, from the next broker if necessary."""
    answers: Future[Any] = Future()
    with serving("gated", path=path) as broker:
        future = client.model("gated").submit(gated(1, 4))
        future.add_done_callback(
            lambda done: answers.set_result(client.model("gated").predict(gated(0, done.result()["y"][0])))
        )
        broker.gate.wait_for(1)
        broker.kill()
    with serving("gated", path=path) as broker:
        broker.gate.open()
        assert answers.result(PATIENCE_S)["y"] == [16]


# -- fork and signals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["map", "map_unordered"])
def test_futures_end_in_a_child_forked_meanwhile(path: Path, client: Client, way: str) -> None:
    """In a child its parent's futures fail at once, without their callbacks; the parent's are answered."""
    called: list[int] = []

    def child() -> None:
        with pytest.raises(BrokerUnavailable, match="forked from"):
            future.result(PATIENCE_S)
        assert wait([future], timeout=PATIENCE_S).done == {future}
        with pytest.raises(BrokerUnavailable, match="forked from"):
            next(answers)
        assert called == []
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)

    def single(number: int) -> dict[str, np.int64]:
        return {"number": np.int64(number), "n": np.int64(5)}

    with serving("gated_produce", "double", path=path) as broker:
        model = client.model("gated_produce")
        answers = iter(getattr(model, way)((single(n and 1) for n in range(3)), max_in_flight=2))
        next(answers)
        future = model.submit(single(1))
        future.add_done_callback(lambda _: called.append(os.getpid()))
        with worker(child) as forked:
            forked.result()
        broker.gate.open()
        assert len(future.result(PATIENCE_S)["y"]) == 5
        assert len(list(answers)) == 2
    assert called == [os.getpid()]


def test_futures_that_wait_for_a_broker_end_in_a_child(path: Path, client: Client) -> None:
    """The same for futures whose broker has gone."""

    def child() -> None:
        for future in futures:
            assert isinstance(future.exception(PATIENCE_S), BrokerUnavailable)

    with serving("gated", path=path) as broker:
        futures = [client.model("gated").submit(gated(1)) for _ in range(3)]
        broker.gate.wait_for(1)
        broker.kill()
    wait_until(lambda: client._connection.reruns._current, "the wait for the next broker")
    with worker(child) as forked:
        forked.result()
    client.close()
