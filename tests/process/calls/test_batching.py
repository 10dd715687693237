"""Requests of several workers joined into batches: every answer is its own request's."""

from __future__ import annotations

import signal

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving, wait_until
from tests.workers import Talk, worker, workers
from worker_client import Client, ModelFailed

MODELS = ("tell", "gated", "picky_heavy", "picky", "double", "loses_rows")
WORKERS = 8
CALLS = 600


def calls_of(number: int, address: str, seed: int) -> int:
    """Random rows through `predict`, `submit` and `request`, each answer checked; the largest batch seen."""
    rng = np.random.default_rng([seed, number])
    largest = 0
    with worker_client.connect(address) as client:
        model = client.model("tell")
        pending = []
        for call in range(CALLS):
            rows = int(rng.integers(0, 9))
            x = rng.standard_normal((rows, 4)).astype(np.float32)
            row = rng.integers(-(1 << 40), 1 << 40, rows)
            want = x * 2.0 + row[:, None]
            if call % 4:
                y = model.predict({"x": x, "row": row}, timeout=100)
                np.testing.assert_array_equal(y["y"], want)
                largest = max(largest, *y["rows_in_batch"], 0)
            else:
                pending.append((model.submit({"x": x, "row": row}), want))
            if len(pending) == 6:
                for future, expected in pending:
                    np.testing.assert_array_equal(future.result(100)["y"], expected)
                pending.clear()
        for future, expected in pending:
            np.testing.assert_array_equal(future.result(100)["y"], expected)
    return int(largest)


@pytest.mark.timeout(240)
def test_thousands_of_random_requests_from_8_workers(broker: TestBroker, seed: int) -> None:
    """8 workers, thousands of requests of 0 to 8 random rows: each answer is right, and batches were formed."""
    with workers(WORKERS, calls_of, broker.address, seed) as all_of_them:
        largest = [one.result() for one in all_of_them]
    assert max(largest) > 8  # more rows than one request has
    counters = broker.counters("tell")
    assert counters["requests"] == WORKERS * CALLS
    assert counters["runs"] < counters["requests"]
    assert max(int(rows) for rows in counters["batch_rows"]) <= 64


def in_a_queue(broker: TestBroker, client: Client, number: int, values: list[float]) -> list[object]:
    """Submit requests behind one that waits in the model, so that they wait together; then their futures."""
    model = client.model("gated")
    first = model.submit({"number": np.array([number]), "x": np.ones(1, np.float32)})
    broker.gate.wait_for(number)
    others = [model.submit({"number": np.array([0]), "x": np.full(1, v, np.float32)}) for v in values]
    wait_until(lambda: in_flight(broker) == 1 + len(values), "all requests in the broker's hands")
    return [first, *others]


def in_flight(broker: TestBroker) -> int:
    """Requests that the broker has taken from its workers' rings and not answered yet."""
    return sum(worker["in_flight"] for worker in broker.status()["workers"])


def test_what_waits_together_runs_together(broker: TestBroker, client: Client) -> None:
    """Requests that came while the model ran are one batch, and each gets its own row of it."""
    _, *waiting = in_a_queue(broker, client, 1, [float(value) for value in range(7)])
    broker.gate.open(1)
    answers = [future.result(60) for future in waiting]  # type: ignore[attr-defined]
    assert [answer["y"].tolist() for answer in answers] == [[2.0 * value] for value in range(7)]
    assert {int(answer["rows_in_batch"][0]) for answer in answers} == {7}


def test_a_batch_stays_within_its_limit() -> None:
    """`max_batch_size` bounds the rows of a batch."""
    source = {"source": "tests.process.models:gated", "max_batch_size": 4}
    with (
        serving("double", models={"gated": source}) as broker,
        worker_client.connect(broker.address) as client,
    ):
        _, *waiting = in_a_queue(broker, client, 1, [1.0] * 9)
        broker.gate.open(1)
        batches = [int(future.result(60)["rows_in_batch"][0]) for future in waiting]  # type: ignore[attr-defined]
        assert sorted(batches) == [1] + [4] * 8


def test_what_one_look_finds_stays_within_the_limit() -> None:
    """`max_batch_size` bounds a light model's batches as well, however many requests have come since the last look."""
    source = {"source": "tests.process.models:tell", "max_batch_size": 4}
    with serving(models={"tell": source}) as broker, worker_client.connect(broker.address) as client:
        model = client.model("tell")
        one = {"x": np.ones((1, 4), np.float32), "row": np.arange(1)}
        model.predict(one)
        broker.signal(signal.SIGSTOP)
        futures = [model.submit(one) for _ in range(8)]
        broker.signal(signal.SIGCONT)
        batches = [int(future.result(60)["rows_in_batch"][0]) for future in futures]
        assert max(batches) == 4


def test_batching_can_be_switched_off() -> None:
    """With `batching` off each request runs alone, in the order they came."""
    source = {"source": "tests.process.models:gated", "batching": False}
    with (
        serving("double", models={"gated": source}) as broker,
        worker_client.connect(broker.address) as client,
    ):
        _, *waiting = in_a_queue(broker, client, 1, [1.0, 2.0, 3.0])
        broker.gate.open(1)
        answers = [future.result(60) for future in waiting]  # type: ignore[attr-defined]
        assert [int(answer["rows_in_batch"][0]) for answer in answers] == [1, 1, 1]


@pytest.mark.parametrize("model", ["picky", "picky_heavy"])
def test_the_guilty_request_fails_alone(client: Client, model: str) -> None:
    """One bad row in a batch fails its own request; those that were batched with it are answered."""
    handle = client.model(model)
    for _ in range(20):
        futures = [handle.submit(np.full((1, 4), value, np.float32)) for value in range(16)]
        for value, future in enumerate(futures):
            if value == 13:
                assert isinstance(future.exception(60), ModelFailed)
            else:
                np.testing.assert_array_equal(future.result(60), np.full((1, 4), 2 * value))


def test_a_model_that_loses_rows_in_batches_answers_alone(client: Client) -> None:
    """A batch whose answer has the wrong number of rows is run again one by one."""
    futures = [client.model("loses_rows").submit(np.full((1, 4), value, np.float32)) for value in range(40)]
    for value, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(60), np.full((1, 4), value))


def test_a_slow_model_does_not_hold_up_another(broker: TestBroker, client: Client) -> None:
    """While a heavy model runs, a light one answers."""
    first, *_ = in_a_queue(broker, client, 5, [])
    for value in range(50):
        y = client.model("double").predict(np.full((1, 4), value, np.float32), timeout=60)
        np.testing.assert_array_equal(y, np.full((1, 4), 2 * value))
    assert not first.done()  # type: ignore[attr-defined]
    broker.gate.open(5)
    first.result(60)  # type: ignore[attr-defined]


def test_batches_join_workers(broker: TestBroker) -> None:
    """Requests of different processes run in one batch."""

    def one_call(talk: Talk, value: int) -> tuple[float, int]:
        talk.hear()
        with worker_client.connect(broker.address) as client:
            inputs = {"number": np.array([0]), "x": np.array([value], np.float32)}
            y = client.model("gated").predict(inputs, timeout=100)
            return float(y["y"][0]), int(y["rows_in_batch"][0])

    with worker_client.connect(broker.address) as client:
        first, *_ = in_a_queue(broker, client, 6, [])
        with worker(one_call, 3, talk=True) as one, worker(one_call, 4, talk=True) as other:
            one.say()
            other.say()
            while broker.status()["workers"] and sum(w["in_flight"] for w in broker.status()["workers"]) < 3:
                pass
            broker.gate.open(6)
            assert [one.result(), other.result()] == [(6.0, 2), (8.0, 2)]
        first.result(60)  # type: ignore[attr-defined]
