"""Clients that are closed, dropped or garbage-collected while there are calls; several clients and brokers at once."""

from __future__ import annotations

import gc
import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving, wait_until
from worker_client import BrokerUnavailable, Client, Model
from worker_client.ipc.waiting import WaitMode

MODELS = ("double", "tell", "gated", "produce")
ROW = np.ones((1, 4), np.float32)
MODES = [mode.value for mode in WaitMode]


def by_predict(model: Model, value: int) -> np.ndarray:
    return np.asarray(model.predict(ROW * value, timeout=60))


def by_submit(model: Model, value: int) -> np.ndarray:
    return np.asarray(model.submit(ROW * value, timeout=60).result(60))


def by_request(model: Model, value: int) -> np.ndarray:
    with model.request() as request:
        request["x"] = value
        return request.run(timeout=60)["y"].copy()


def by_map(model: Model, value: int) -> np.ndarray:
    (answer,) = model.map([ROW * value])
    return np.asarray(answer)


WAYS = [by_predict, by_submit, by_request, by_map]


def test_a_future_keeps_its_client_alive(broker: TestBroker) -> None:
    """A future is answered though client and model were dropped as soon as it was there."""
    inputs = {"number": np.array([1]), "x": np.ones(1, np.float32)}
    future = worker_client.connect(broker.address).model("gated").submit(inputs)
    broker.gate.wait_for(1)
    gc.collect()
    broker.gate.open(1)
    assert future.result(60)["y"] == [2]


def test_a_request_keeps_its_client_alive(broker: TestBroker) -> None:
    """A request works in one expression with the client that it came from."""
    with worker_client.connect(broker.address).model("double").request() as request:
        gc.collect()
        request["x"] = 3
        assert (request.run()["y"] == 6).all()


@pytest.mark.parametrize("way", WAYS)
def test_a_dropped_client_goes_by_itself(broker: TestBroker, way: Callable[[Model, int], np.ndarray]) -> None:
    """A client that nobody refers to any more gives up its channel, without `close`."""
    client = worker_client.connect(broker.address)
    np.testing.assert_array_equal(way(client.model("double"), 4), ROW * 8)
    assert broker.workers() == [os.getpid()]
    del client
    gc.collect()
    wait_until(lambda: broker.workers() == [], "the end of the dropped client at the broker")


def test_a_closed_client_attaches_anew(broker: TestBroker) -> None:
    """`close` is no end: the next call attaches again, by any handle; closing twice, or unused, does nothing."""
    client = worker_client.connect(broker.address)
    client.close()
    for value, way in enumerate(WAYS * 3):
        np.testing.assert_array_equal(way(client.model("double"), value), ROW * 2 * value)
        client.close()
        client.close()
    wait_until(lambda: broker.workers() == [], "the end of the channels at the broker")


def outcome(way: Callable[[Model, int], np.ndarray], model: Model, value: int) -> str:
    try:
        answer = way(model, value)
    except BrokerUnavailable:
        return "told"
    except BaseException as error:
        return f"{way.__name__} raised {error!r}"
    return "answered" if (answer == 2 * np.float32(value)).all() else f"{way.__name__}({value}) gave {answer}"


def test_closing_under_load_ends_calls_cleanly(broker: TestBroker) -> None:
    """With a client closed again and again under eight threads of calls, each call is answered right or told."""
    client = worker_client.connect(broker.address)
    stop = threading.Event()
    outcomes: Counter[str] = Counter()

    def calls(thread: int) -> None:
        model = client.model("double")
        for value in itertools.count(thread * 1000):
            if stop.is_set():
                return
            outcomes[outcome(WAYS[(thread + value) % len(WAYS)], model, value)] += 1

    threads = [threading.Thread(target=calls, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for round_ in range(40):
        wait_until(lambda seen=round_: outcomes["answered"] > 20 * seen, "answers between two closes")
        client.close()
    stop.set()
    for thread in threads:
        thread.join()
    client.close()
    assert outcomes.keys() <= {"answered", "told"}


@pytest.mark.parametrize("brokers_mode", MODES)
def test_every_way_of_waiting_gives_the_answers(brokers_mode: str) -> None:
    """Whether worker and broker poll, block or choose, each pair of them answers."""
    with serving("double", wait=brokers_mode) as broker:
        for mode in MODES:
            with worker_client.connect(broker.address, wait=mode) as client:
                for value in range(120):
                    way = WAYS[value % len(WAYS)]
                    np.testing.assert_array_equal(way(client.model("double"), value), ROW * 2 * value)


def test_two_clients_of_one_process_are_two_workers(broker: TestBroker, client: Client) -> None:
    """Each client has a channel of its own; closing one does nothing to the other."""
    wait_until(lambda: broker.workers() == [], "the end of earlier tests' channels at the broker")
    with worker_client.connect(broker.address) as other:
        for value in range(20):
            np.testing.assert_array_equal(by_submit(client.model("double"), value), ROW * 2 * value)
            np.testing.assert_array_equal(by_predict(other.model("double"), value), ROW * 2 * value)
        assert broker.workers() == [os.getpid()] * 2
    np.testing.assert_array_equal(by_predict(client.model("double"), 1), ROW * 2)


def test_one_process_uses_two_brokers(client: Client) -> None:
    """Handles of two brokers in one process do not get into each other's way, not even when one broker dies."""
    with serving("produce", "double") as other, worker_client.connect(other.address, retries=0) as second:
        for value in range(20):
            assert len(second.model("produce").predict(np.int64(5000 + value))) == 5000 + value
            np.testing.assert_array_equal(by_predict(client.model("double"), value), ROW * 2 * value)
        other.kill()
        with pytest.raises(BrokerUnavailable):
            by_predict(second.model("double"), 1)
        np.testing.assert_array_equal(by_predict(client.model("double"), 7), ROW * 14)
