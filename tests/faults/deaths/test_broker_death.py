"""Brokers stopped and killed while calls wait: which calls are answered, which get an error, what the next start
finds."""

from __future__ import annotations

import contextlib
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
import psutil
import pytest

import worker_client
from broker import Broker
from tests import brokers
from tests.brokers import SHM, TestBroker, serving, wait_until
from tests.process.models import sources
from worker_client import BrokerError, BrokerUnavailable, Client
from worker_client.wire.address import name_prefix
from worker_client.wire.layout import NO_DEADLINE

MODELS = ("double", "gated", "gated_inline", "gated_produce")
ROOT = Path(__file__).parents[3]
SOON_S = 20.0
"""Generous, and well before any call's own time-out of 60 s."""


@pytest.fixture
def client(broker: TestBroker) -> Iterator[Client]:
    """A client whose calls fail at a broker's death, and are not run again."""
    with worker_client.connect(broker.address, retries=0) as client:
        yield client


def gated(number: int, x: float = 1.0) -> dict[str, np.ndarray]:
    return {"number": np.array([number], np.int64), "x": np.array([x], np.float32)}


def one(number: int, x: float = 1.0) -> dict[str, Any]:
    return {"number": np.int64(number), "x": np.float32(x)}


def check(client: Client, value: float) -> None:
    x = np.full((1, 4), value, np.float32)
    assert (client.model("double").predict(x) == 2 * value).all()


def told_soon(calls: list[Future[Any]]) -> None:
    """Each of these calls ends with BrokerUnavailable, well before its time-out."""
    deadline = time.monotonic() + SOON_S
    for call in calls:
        assert isinstance(call.exception(deadline - time.monotonic()), BrokerUnavailable)


def in_flight(broker: TestBroker, count: int) -> None:
    wait_until(lambda: sum(w["in_flight"] for w in broker.status()["workers"]) >= count, f"{count} in flight")


# -- stopped -------------------------------------------------------------------------------------------------------


def test_a_polite_stop_answers_what_was_accepted(
    broker: TestBroker, client: Client, threads: ThreadPoolExecutor
) -> None:
    """Calls and futures that the broker had accepted before it was stopped get their right answers."""
    model = client.model("gated")
    calls = [threads.submit(model.predict, gated(n, n)) for n in range(1, 5)]
    futures = [model.submit(gated(n, n)) for n in range(5, 9)]
    in_flight(broker, 8)
    broker.signal(signal.SIGTERM)
    broker.gate.open()
    for n, call in enumerate(calls + futures, start=1):
        assert call.result(SOON_S)["y"] == [2.0 * n]
    broker.stop()
    with pytest.raises(BrokerUnavailable):
        check(client, 1.0)


def test_a_stop_while_workers_come_and_go_is_in_order() -> None:
    """Whatever the control plane does at that moment, a stop succeeds and leaves nothing behind."""
    with brokers.folder() as place:
        for delay in range(0, 12, 3):
            broker = Broker(sources("double"), name=str(place / "b.sock"))
            broker.start()
            clients = [worker_client.connect(broker.address) for _ in range(4)]
            for client in clients:
                check(client, 1.0)
            closing = threading.Thread(target=lambda these=clients: [client.close() for client in these])
            closing.start()
            time.sleep(delay / 10_000)
            broker.stop()
            closing.join()
            assert os.listdir(place) == []


def test_grown_outputs_of_accepted_calls_arrive(
    broker: TestBroker, client: Client, threads: ThreadPoolExecutor
) -> None:
    """An accepted call whose answer needs new memory gets it, even while the broker is stopping."""
    model = client.model("gated_produce")
    inputs = {"number": np.int64(1), "n": np.int64(3_000_000)}
    call, future = threads.submit(model.predict, inputs), model.submit(inputs)
    in_flight(broker, 2)
    broker.signal(signal.SIGTERM)
    broker.gate.open()
    for answer in (call.result(SOON_S), future.result(SOON_S)):
        assert len(answer["y"] if isinstance(answer, dict) else answer) == 3_000_000


def test_a_drain_has_an_end(threads: ThreadPoolExecutor) -> None:
    """Runs that still go on after `drain_seconds` are given up, and their callers get an error."""
    with (
        serving("gated", drain_seconds=0.2) as broker,
        worker_client.connect(broker.address, retries=0) as client,
    ):
        calls = [
            threads.submit(client.model("gated").predict, gated(7)),
            client.model("gated").submit(gated(7)),
        ]
        broker.gate.wait_for(7)
        broker.stop()
        told_soon(calls)


def test_a_second_signal_stops_at_once(
    broker: TestBroker, client: Client, threads: ThreadPoolExecutor
) -> None:
    """A broker that drains ends at the second SIGTERM, and its callers get an error."""
    call = threads.submit(client.model("gated").predict, gated(9))
    broker.gate.wait_for(9)
    process = psutil.Process(broker.pid)
    broker.signal(signal.SIGTERM)
    assert wait_until(lambda: signal_is_handled(process), "the first signal to be handled")
    broker.signal(signal.SIGTERM)
    told_soon([call])


def signal_is_handled(process: psutil.Process) -> bool:
    """No signal is pending any more: the main thread's handler has been called."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    pending = [
        int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))
    ]
    time.sleep(0.2)  # from the C handler to Python's; nothing outside tells when
    return not any(pending)


def test_an_answer_that_came_before_the_end_is_not_thrown_away(broker: TestBroker, client: Client) -> None:
    """A caller that gets to run only after its broker has gone still finds the answer that came before."""
    x = np.full((1, 4), 3, np.float32)
    model = client.model("double")
    (expected,) = model.predict(x)
    channel = client._connection.channel()
    with model.request(rows=1) as request:
        request["x"] = x
        assert request._slot is not None
        channel.submit(request._slot, model.bind(NO_DEADLINE).id, NO_DEADLINE)
        wait_until(lambda: request._slot.done, "the answer")
        broker.stop()
        wait_until(lambda: not channel.open, "the watcher to notice")
        channel.wait(request._slot, NO_DEADLINE)
        assert (request._slot.result()[0] == expected).all()


def test_futures_answered_before_the_end_have_their_answers(broker: TestBroker, client: Client) -> None:
    """Futures whose answers came while a callback held up their thread get them, even if the broker then goes away."""
    channel = client._connection.channel()
    inside, go_on = threading.Event(), threading.Event()

    def hold_up(future: Future[Any]) -> None:
        inside.set()
        go_on.wait(60)

    model = client.model("gated")
    first = model.submit(gated(1))
    first.add_done_callback(hold_up)
    broker.gate.open(1)
    assert inside.wait(60)
    later = [model.submit(gated(0, n)) for n in range(5)]
    wait_until(lambda: broker.counters("gated")["requests"] == 6, "all to be answered")
    broker.stop()
    wait_until(lambda: not channel.open, "the watcher to notice")
    go_on.set()
    assert [future.result(SOON_S)["y"] for future in later] == [0, 2, 4, 6, 8]


# -- killed --------------------------------------------------------------------------------------------------------


def test_a_kill_wakes_every_waiting_call(
    broker: TestBroker, client: Client, threads: ThreadPoolExecutor
) -> None:
    """Calls in several threads, requests and futures learn at once that their broker was killed."""

    def request(n: int) -> None:
        with client.model("gated").request(rows=1) as request:
            request["number"] = n
            request["x"] = 1
            request.run()

    model = client.model("gated")
    calls = [threads.submit(model.predict, gated(n)) for n in range(1, 5)]
    calls += [threads.submit(request, n) for n in range(5, 7)]
    futures = [model.submit(gated(n)) for n in range(7, 11)]
    mapped = threads.submit(lambda: list(model.map([gated(n) for n in range(11, 14)])))
    in_flight(broker, 13)
    broker.kill()
    told_soon([*calls, *futures, mapped])


def test_calls_of_every_kind_know_a_dead_broker(broker: TestBroker, client: Client) -> None:
    """After its broker's death a client's calls say so at once, whatever kind of call it is."""
    check(client, 1.0)
    with client.model("double").request(rows=1) as request:
        broker.kill()
        with pytest.raises(BrokerUnavailable):
            request.run()
    calls: list[Callable[[], Any]] = [
        lambda: client.model("double").predict(np.ones((1, 4), np.float32)),
        lambda: client.model("double").submit(np.ones((1, 4), np.float32)),
        lambda: client.model("double").request(rows=1),
        lambda: list(client.model("double").map([np.ones((1, 4), np.float32)])),
        lambda: client.model("double").signature,
        client.models,
    ]
    for call in calls:
        with pytest.raises(BrokerUnavailable, match="onesession serve"):
            call()


def test_a_callback_may_call_the_dead_broker(broker: TestBroker, client: Client) -> None:
    """A future's callback that calls again when its broker died gets the error too, and nothing hangs."""
    seen: Future[Any] = Future()

    def again(future: Future[Any]) -> None:
        try:
            check(client, 1.0)
        except BrokerError as error:
            seen.set_exception(error)

    future = client.model("gated").submit(gated(3))
    future.add_done_callback(again)
    broker.gate.wait_for(3)
    broker.kill()
    told_soon([future, seen])


def test_a_call_that_starts_while_its_broker_dies_is_told(
    broker: TestBroker, client: Client, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that meets its channel open, and loses it just before it submits, learns of it; whatever used its slot
    before."""
    channel = client._connection.channel()
    for future in [client.model("gated").submit(gated(0)) for _ in channel.slots]:
        future.result()  # a slot that last served a future is woken through the bell

    def die_meanwhile() -> int:
        if channel.open:
            broker.kill()
            wait_until(lambda: not channel.open, "the watcher to notice")
        return time.monotonic_ns()

    monkeypatch.setattr("worker_client.calls.channel.monotonic_ns", die_meanwhile)
    told_soon([threads.submit(client.model("gated").predict, gated(0))])


def test_the_next_broker_at_the_address_serves_the_same_client() -> None:
    """Client and model handles continue with the broker that replaces a killed one, in threads and in futures."""
    with brokers.folder() as place, worker_client.connect(place / "b.sock", retries=0) as client:
        model = client.model("double")
        for value in range(4):
            with serving("double", path=place / "b.sock") as broker:
                x = np.full((1, 4), value, np.float32)
                assert (model.predict(x) == 2 * value).all()
                assert (model.submit(x).result(60) == 2 * value).all()
                broker.kill() if value % 2 else broker.stop()
            with pytest.raises(BrokerUnavailable):
                model.predict(np.ones((1, 4), np.float32))


def test_a_broker_killed_under_load_costs_errors_but_no_wrong_answer(threads: ThreadPoolExecutor) -> None:
    """While brokers are killed and started again under eight threads of calls without retries, each call gets a right
    answer or an error."""
    stop = threading.Event()

    def calls(client: Client, thread: int) -> tuple[int, int]:
        right = told = 0
        while not stop.is_set():
            value = float(thread * 1000 + right % 1000)
            try:
                x = np.full((1 + right % 3, 4), value, np.float32)
                y = (
                    client.model("double").submit(x).result(60)
                    if right % 2
                    else client.model("double").predict(x)
                )
                assert (y == 2 * value).all()
                right += 1
            except BrokerUnavailable:
                told += 1
        return right, told

    with brokers.folder() as place, worker_client.connect(place / "b.sock", retries=0) as client:
        with serving("double", path=place / "b.sock") as broker:
            running = [threads.submit(calls, client, n) for n in range(8)]
            wait_until(lambda: broker.counters("double")["requests"] > 200, "traffic")
            broker.kill()
        for _ in range(3):
            with serving("double", path=place / "b.sock") as broker:
                wait_until(lambda b=broker: b.counters("double")["requests"] > 200, "traffic")
                broker.kill()
        stop.set()
        assert all(right and told for right, told in (call.result(60) for call in running))


# -- what the next start finds -------------------------------------------------------------------------------------


def test_the_next_start_sweeps_what_a_kill_left() -> None:
    """A start removes socket, lock and names of the killed broker at its address, and no other broker's."""
    with brokers.folder() as place:
        path, other = place / "b.sock", place / "other.sock"
        left = SHM / f"{name_prefix(path).lstrip('/')}1.1"
        strangers = SHM / f"sem.{name_prefix(other).lstrip('/')}1.1"
        with serving("double", path=path) as broker:
            broker.kill()
            assert broker.names(), "a kill leaves the doorbell"
        assert path.exists()
        left.touch()
        strangers.touch()
        try:
            with serving("double", path=path) as broker, worker_client.connect(path) as client:
                check(client, 1.0)
                wait_until(lambda: len(broker.names()) == 1, "only the new doorbell to have a name")
                assert strangers.exists()
            assert os.listdir(place) == []
            assert broker.names() == []
        finally:
            strangers.unlink()


def test_a_live_address_is_not_taken_over(broker: TestBroker, client: Client) -> None:
    """A second broker at the address of a live one is refused with the pid of that one, which continues undisturbed."""
    for _ in range(3):
        with pytest.raises(BrokerError, match=rf"pid {broker.pid}\b"):
            Broker(sources("double"), name=broker.address).start()
        check(client, 1.0)


def test_only_one_of_many_starters_wins() -> None:
    """Of brokers that start at one address at the same time one serves, and the others are refused."""
    with brokers.folder() as place:
        made = [Broker(sources("double"), name=str(place / "b.sock")) for _ in range(4)]
        with ThreadPoolExecutor(len(made)) as pool:
            outcomes = [pool.submit(broker.start) for broker in made]
            errors = [outcome.exception(60) for outcome in outcomes]
        try:
            assert [type(error) for error in errors].count(type(None)) == 1
            assert all(isinstance(error, (BrokerError, type(None))) for error in errors)
            with worker_client.connect(place / "b.sock") as client:
                check(client, 1.0)
        finally:
            for broker in made:
                broker.stop()


def test_a_full_backlog_is_waited_for(
    broker: TestBroker, client: Client, threads: ThreadPoolExecutor
) -> None:
    """A worker that attaches while more others do than the socket's backlog holds waits its turn."""
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as crowd:
        broker.signal(signal.SIGSTOP)
        stack.callback(broker.signal, signal.SIGCONT)
        while True:
            other = crowd.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            other.setblocking(False)
            if other.connect_ex(broker.address):
                break
        call = threads.submit(check, client, 1.0)
        assert not wait([call], timeout=0.1).done
        # a process may have so many connections only; until they are accepted, the backlog is as full
        crowd.close()
        broker.signal(signal.SIGCONT)
        call.result(60)
