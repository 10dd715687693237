"""Timeouts: which calls get DeadlineExceeded, and that no call takes a late answer."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving, wait_until
from tests.workers import Talk, worker
from worker_client import Client, DeadlineExceeded, Overloaded

MODELS = ("double", "gated", "gated_inline", "tell")
OPTIONS = {"slots": 2, "max_slots": 2}
ROW = np.ones((1, 4), np.float32)


def gated(number: int, value: float = 1) -> dict[str, np.ndarray]:
    return {"number": np.array([number]), "x": np.array([value], np.float32)}


def test_a_late_answer_is_a_timeout_error(broker: TestBroker, client: Client) -> None:
    """DeadlineExceeded is a TimeoutError, and comes although the model never returns."""
    with pytest.raises(TimeoutError, match="within the call's timeout") as caught:
        client.model("gated").predict(gated(1), timeout=0.05)
    assert isinstance(caught.value, DeadlineExceeded)
    assert broker.gate.entries(1) == 1
    broker.gate.open(1)


def test_the_clients_default_time_out_counts(broker: TestBroker) -> None:
    """`connect(timeout=)` is the time-out of calls that name none, of `run` as of `predict`."""
    with worker_client.connect(broker.address, timeout=0.05) as client:
        with pytest.raises(DeadlineExceeded):
            client.model("gated").predict(gated(2))
        with client.model("gated").request() as request:
            request["number"], request["x"] = 2, 1
            with pytest.raises(DeadlineExceeded):
                request.run()
        broker.gate.open(2)
        assert client.model("gated").predict(gated(0), timeout=60)["y"] == [2]


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_deadline_that_has_passed_already(client: Client, timeout: float) -> None:
    """No time at all is DeadlineExceeded (Overloaded, where all slots wait to come back), and costs no slot."""
    for _ in range(5):
        with pytest.raises((DeadlineExceeded, Overloaded)):
            client.model("double").predict(ROW, timeout=timeout)
    np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


def test_no_deadline_at_all(broker: TestBroker) -> None:
    """An infinite time-out waits for as long as it takes."""
    with worker_client.connect(broker.address, timeout=float("inf")) as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.model("gated").predict, gated(3, 4))
        broker.gate.wait_for(3)
        broker.gate.open(3)
        assert answer.result(60)["y"] == [8]


def test_late_answers_are_never_anothers() -> None:
    """Slots of calls that gave up come back after the late answer, and never answer the next call with it."""
    with serving("gated", slots=2, max_slots=2) as broker, worker_client.connect(broker.address) as client:
        model = client.model("gated")
        for number in range(1, 12):
            with pytest.raises(DeadlineExceeded):
                model.predict(gated(number, 1000), timeout=0.02)
            opener = threading.Thread(target=broker.gate.open, args=(number,))
            opener.start()
            assert model.predict(gated(0, number), timeout=60)["y"] == [2 * number]
            opener.join()


def test_a_request_whose_caller_gave_up_is_not_run() -> None:
    """What is still queued when its deadline passes is dropped before it runs."""
    with serving("gated_inline") as one_thread, worker_client.connect(one_thread.address) as client:
        model = client.model("gated_inline")
        first = model.submit({"number": np.int64(1), "x": np.float32(1)})
        one_thread.gate.wait_for(1)
        with pytest.raises(DeadlineExceeded):
            model.predict({"number": np.int64(2), "x": np.float32(2)}, timeout=0.05)
        one_thread.gate.open()
        assert first.result(60)["y"] == 2
        assert model.predict({"number": np.int64(0), "x": np.float32(3)})["y"] == 6
        assert one_thread.gate.entries(2) == 0


def submit_number_two(talk: Talk, address: str, timeout: float) -> None:
    with worker_client.connect(address) as client:
        client.model("gated_inline").submit({"number": np.int64(2), "x": np.float32(2)}, timeout=timeout)
        talk.say("submitted")
        talk.hear()


def test_a_request_of_a_suspended_worker_is_not_run_after_its_deadline() -> None:
    """The worker cannot cancel it, so the broker checks the deadline itself."""
    timeout = 1.0
    with serving("gated_inline") as one_thread, worker_client.connect(one_thread.address) as client:
        first = client.model("gated_inline").submit({"number": np.int64(1), "x": np.float32(1)})
        one_thread.gate.wait_for(1)
        with worker(submit_number_two, one_thread.address, timeout, talk=True) as child:
            assert child.hear() == "submitted"
            os.kill(child.pid, signal.SIGSTOP)
            time.sleep(timeout)
            one_thread.gate.open()
            assert first.result(60)["y"] == 2
            assert client.model("gated_inline").predict({"number": np.int64(0), "x": np.float32(3)})["y"] == 6
            assert one_thread.gate.entries(2) == 0
            child.kill()


def test_a_timed_out_run_holds_its_request_block(broker: TestBroker, client: Client) -> None:
    """Within its block a request that timed out cannot run again; its slot comes back when the broker is done."""
    with client.model("gated").request() as request:
        request["number"], request["x"] = 4, 1
        with pytest.raises(DeadlineExceeded):
            request.run(timeout=0.05)
        with pytest.raises(worker_client.BrokerError, match="still holds its slot"):
            request.run()
    broker.gate.open(4)
    wait_until(lambda: broker.status()["workers"][0]["in_flight"] == 0, "the end of the late run")
    assert [f.result(60)["y"] for f in [client.model("gated").submit(gated(0)) for _ in range(2)]] == [
        [2],
        [2],
    ]


def test_each_of_many_waiters_keeps_its_own_deadline() -> None:
    """Threads with different time-outs on one channel: the short ones end, the long ones get their answers."""
    with serving("gated", slots=16) as roomy, worker_client.connect(roomy.address) as client:
        model = client.model("gated")

        def call(number: int) -> float | None:
            try:
                return float(
                    model.predict(gated(7, number), timeout=60 if number % 2 else 0.02 * number)["y"][0]
                )
            except DeadlineExceeded:
                return None

        with ThreadPoolExecutor(16) as pool:
            calls = [pool.submit(call, number) for number in range(16)]
            short = [calls[number].result(60) for number in range(0, 16, 2)]
            roomy.gate.open(7)
            long = [calls[number].result(60) for number in range(1, 16, 2)]
        assert short == [None] * 8
        assert long == [2.0 * number for number in range(1, 16, 2)]


def test_thousands_of_short_deadlines_lose_nothing(client: Client, rng: np.random.Generator) -> None:
    """Deadlines that pass at any moment of a call, before, in and after the run, leave answers right and slots free."""
    model = client.model("tell")
    late = 0
    for call in range(2000):
        x = np.full((1, 4), call, np.float32)
        try:
            y = model.predict({"x": x, "row": np.array([call])}, timeout=float(rng.uniform(0, 0.0004)))
        except (DeadlineExceeded, Overloaded):  # Overloaded: not even a slot came back in time
            late += 1
        else:
            np.testing.assert_array_equal(y["y"], x * 2.0 + call)
    assert 0 < late < 2000
    futures = [model.submit({"x": ROW, "row": np.array([1])}) for _ in range(2)]
    assert all((future.result(60)["y"] == 3).all() for future in futures)
