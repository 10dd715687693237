"""The policy of a model, as its callers see it: splitting, padding, delays, turns, priorities, bounds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving, wait_until
from tests.process.calls.test_batching import in_flight
from tests.workers import Talk, worker, workers
from worker_client import Client, ModelFailed, Overloaded
from worker_client.model import Model

MODELS = ("double",)


@contextmanager
def policy(model: str, **settings: Any) -> Iterator[tuple[TestBroker, Client]]:
    """A broker with one model under these settings, and a client of it."""
    models = {model: {"source": f"tests.process.models:{model}", **settings}}
    with serving("double", models=models) as broker, worker_client.connect(broker.address) as client:
        yield broker, client


def gated(rows: int, first: float = 0.0, number: int = 0) -> dict[str, np.ndarray]:
    return {"number": np.full(rows, number), "x": np.arange(first, first + rows, dtype=np.float32)}


def ragged(*shape: int) -> dict[str, np.ndarray]:
    return {"number": np.zeros(shape[0], np.int64), "x": np.ones(shape, np.float32)}


@contextmanager
def held_up(broker: TestBroker, model: Model, blocker: dict[str, np.ndarray]) -> Iterator[Future[Any]]:
    """One request is inside the model for as long as the block runs, so that what is submitted there queues up."""
    blocker["number"][0] = 1
    future = model.submit(blocker, timeout=120)
    broker.gate.wait_for(1)
    yield future
    broker.gate.open(1)


def queue_up(broker: TestBroker, model: Model, inputs: list[dict[str, np.ndarray]]) -> list[Future[Any]]:
    """Submit these; returns when the broker has them all."""
    already = in_flight(broker)
    futures = [model.submit(each, timeout=120) for each in inputs]
    wait_until(lambda: in_flight(broker) == already + len(inputs), "all requests in the broker's hands")
    return futures


# -- splitting ---------------------------------------------------------------------------------------------------


def test_any_number_of_rows_is_answered():
    """A request runs in as many batches as it takes; beside it, the queue has room for others."""
    rows = np.arange(40_000, dtype=np.float32).reshape(10_000, 4)
    with policy("tell", max_batch_size=2, max_queue_rows=100) as (broker, client):
        model = client.model("tell")
        large = [model.submit({"x": rows, "row": np.arange(10_000)}, timeout=120) for _ in range(2)]
        small = model.predict({"x": rows[:1], "row": np.array([7])}, timeout=120)
        np.testing.assert_array_equal(small["y"], rows[:1] * 2.0 + 7)
        for future in large:
            answer = future.result(120)
            np.testing.assert_array_equal(answer["y"], rows * 2.0 + np.arange(10_000)[:, None])
            assert set(answer["rows_in_batch"].tolist()) <= {1, 2}
        assert broker.status()["queues"]["tell"] == {"rows": 0, "bytes": 0, "held": 0}


def test_a_large_request_is_split() -> None:
    """More rows than `max_batch_size` run in several batches, and the answer has all rows in their order."""
    with policy("gated", max_batch_size=4) as (broker, client):
        answer = client.model("gated").predict(gated(11), timeout=60)
        np.testing.assert_array_equal(answer["y"], 2 * np.arange(11, dtype=np.float32))
        assert answer["rows_in_batch"].tolist() == [4] * 8 + [3] * 3
        assert broker.counters("gated")["batch_rows"] == {"3": 1, "4": 2}


def test_what_is_left_of_a_large_request_joins_others() -> None:
    """The last part of a split request shares its batch."""
    with policy("gated", max_batch_size=4) as (broker, client):
        model = client.model("gated")
        with held_up(broker, model, gated(1)):
            large, small = queue_up(broker, model, [gated(6), gated(2, 50.0)])
        assert large.result(60)["rows_in_batch"].tolist() == [4] * 6
        np.testing.assert_array_equal(large.result(60)["y"], 2 * np.arange(6, dtype=np.float32))
        np.testing.assert_array_equal(small.result(60)["y"], [100, 102])
        assert small.result(60)["rows_in_batch"].tolist() == [4, 4]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_many_large_requests_side_by_side(concurrency: int, seed: int) -> None:
    """Random sizes from 0 rows to many batches, in flight together, also on several runners: every row is right."""
    rng = np.random.default_rng(seed)
    with policy("gated", max_batch_size=5, max_concurrency=concurrency) as (_, client):
        sizes = rng.integers(0, 40, 60)
        batches = [gated(int(rows), 1000.0 * number) for number, rows in enumerate(sizes)]
        answers = client.model("gated").map(batches, max_in_flight=16, timeout=120)
        for batch, answer in zip(batches, answers, strict=True):
            np.testing.assert_array_equal(answer["y"], 2 * batch["x"])
            assert max(answer["rows_in_batch"], default=0) <= 5


@pytest.mark.parametrize("model", ["picky", "picky_heavy"])
def test_a_bad_part_fails_its_request(model: str) -> None:
    """Where one part of a split request fails the request fails, once, and its slot is free again."""
    with policy(model, max_batch_size=2) as (broker, client):
        handle = client.model(model)
        for _ in range(5):
            with pytest.raises(ModelFailed, match="unlucky row"):
                handle.predict(np.full((7, 4), 13, np.float32), timeout=60)
            x = np.ones((7, 4), np.float32)
            np.testing.assert_array_equal(handle.predict(x, timeout=60), 2 * x)
        assert in_flight(broker) == 0


@pytest.mark.parametrize("numbers", [[3, 3, 1, 1], [1, 1, 3, 3]])
def test_parts_whose_rows_do_not_fit_together_run_whole(numbers: list[int]) -> None:
    """If the shape of a row depends on the others, the answer is that of one run, as without splitting."""
    with policy("as_wide_as_its_largest", max_batch_size=2) as (_, client):
        answer = client.model("as_wide_as_its_largest").predict(np.array(numbers), timeout=60)
        np.testing.assert_array_equal(answer, np.arange(3) < np.array(numbers)[:, None])


# -- padding -----------------------------------------------------------------------------------------------------


def test_only_allowed_batch_sizes_run() -> None:
    """Batches are padded up to the next allowed size; callers see their own rows only."""
    with policy("gated", allowed_batch_sizes=[2, 8]) as (broker, client):
        model = client.model("gated")
        for rows, size in ((1, 2), (2, 2), (3, 8), (8, 8)):
            answer = model.predict(gated(rows), timeout=60)
            np.testing.assert_array_equal(answer["y"], 2 * np.arange(rows, dtype=np.float32))
            assert answer["rows_in_batch"].tolist() == [size] * rows
        answer = model.predict(gated(11), timeout=60)
        assert answer["rows_in_batch"].tolist() == [8] * 11
        assert model.predict(gated(0), timeout=60)["y"].shape == (0,)
        assert broker.counters("gated")["padded_rows"] == 1 + 5 + 5


@pytest.mark.parametrize("ragged", [False, True])
def test_padding_is_no_reason_to_fail(ragged: bool) -> None:
    """Rows that fill up a batch are copies of a row that came, so a picky model takes them."""
    name = "no_empty_row"
    with policy(name, allowed_batch_sizes=[4], pad_variable_length=ragged) as (broker, client):
        x = np.ones((3, 4), np.float32)
        np.testing.assert_array_equal(client.model(name).predict(x, timeout=60), 2 * x)
        assert broker.counters(name)["padded_rows"] == 1
        with pytest.raises(ModelFailed):
            client.model(name).predict(0 * x, timeout=60)


def test_variable_lengths_are_joined() -> None:
    """With `pad_variable_length` rows of different lengths run in one batch, and each gets an answer of its length."""
    with policy("gated_ragged", pad_variable_length=True, pad_value=7) as (broker, client):
        model = client.model("gated_ragged")
        with held_up(broker, model, ragged(1, 1)):
            futures = queue_up(broker, model, [ragged(1, 2), ragged(2, 5), ragged(1, 3)])
        answers = [future.result(60) for future in futures]
        assert [answer["y"].shape for answer in answers] == [(1, 2), (2, 5), (1, 3)]
        assert all((answer["y"] == 2).all() for answer in answers)
        assert [answer["width"].tolist() for answer in answers] == [[5], [5, 5], [5]]
        assert [answer["sum"].tolist() for answer in answers] == [[2 + 21], [5, 5], [3 + 14]]


def test_variable_lengths_are_not_joined_unless_asked() -> None:
    """Without it each length is a batch of its own."""
    with policy("gated_ragged") as (broker, client):
        model = client.model("gated_ragged")
        with held_up(broker, model, ragged(1, 1)):
            futures = queue_up(broker, model, [ragged(1, 2), ragged(1, 5), ragged(1, 2)])
        assert [future.result(60)["width"].tolist() for future in futures] == [[2], [5], [2]]


# -- delays ------------------------------------------------------------------------------------------------------


def test_requests_wait_for_company() -> None:
    """With `max_delay` a request waits for others to join it, and runs at once when the batch is full."""
    with policy("gated", max_batch_size=3, max_delay=5.0) as (_, client):
        model = client.model("gated")
        start = time.monotonic()
        futures = [model.submit(gated(1), timeout=60) for _ in range(3)]
        assert [future.result(60)["rows_in_batch"].tolist() for future in futures] == [[3]] * 3
        assert time.monotonic() - start < 5.0


def test_a_delay_ends_in_time_for_the_deadline() -> None:
    """A request whose deadline comes before its delay is over runs before it."""
    with policy("gated", max_delay=10.0) as (_, client):
        client.model("gated").predict(gated(1), timeout=5.0)


@pytest.mark.parametrize("model", ["gated", "picky"])
def test_a_learnt_delay_holds_up_nobody(model: str, seed: int) -> None:
    """With `max_delay = "auto"`, several callers: everything is answered, and rightly."""
    with policy(model, max_delay="auto") as (broker, client):
        handle = client.model(model)
        batches = [gated(1 + number % 3, number) for number in range(300)]
        if model == "picky":
            batches = [np.full((1 + number % 3, 4), number + 100, np.float32) for number in range(300)]  # type: ignore[misc]
        for batch, answer in zip(batches, handle.map(batches, max_in_flight=6, timeout=120), strict=True):
            x, y = (batch["x"], answer["y"]) if model == "gated" else (batch, answer)
            np.testing.assert_array_equal(y, 2 * x)
        assert broker.counters(model)["requests"] == 300


# -- turns and priorities ----------------------------------------------------------------------------------------


def test_one_request_waits_for_one_batch_only() -> None:
    """A worker with 64 requests in flight and one with 1: the one is in the first batch after it came."""

    def single(talk: Talk, address: str) -> int:
        with worker_client.connect(address) as client:
            talk.hear()
            return int(client.model("gated").predict(gated(1, 500.0), timeout=120)["run"][0])

    with policy("gated", max_batch_size=4) as (broker, client):
        model = client.model("gated")
        with worker(single, broker.address, talk=True) as other:
            with held_up(broker, model, gated(1)):
                futures = queue_up(broker, model, [gated(1)] * 60)
                other.say()
                wait_until(lambda: in_flight(broker) == 62, "the single request")
            run = other.result()
            runs = sorted(int(future.result(60)["run"][0]) for future in futures)
        assert run == runs[0]


def test_bulk_lets_interactive_go_first() -> None:
    """Of what waits, interactive requests run before bulk ones, and bulk ones fill the room they leave."""
    with policy("gated", max_batch_size=2) as (broker, client):
        interactive, bulk = client.model("gated"), client.model("gated", priority="bulk")
        with held_up(broker, interactive, gated(1)):
            later = queue_up(broker, bulk, [gated(1)] * 3)
            first = queue_up(broker, interactive, [gated(1)] * 3)
        runs = [int(future.result(60)["run"][0]) for future in first + later]
        begin = runs[0]
        assert [run - begin for run in runs] == [0, 0, 1, 1, 2, 2]


def test_a_priority_must_be_known(client: Client) -> None:
    """The error names the two."""
    with pytest.raises(
        worker_client.InvalidInput, match="priority must be 'interactive' or 'bulk', got 'high'"
    ):
        client.model("double", priority="high")


# -- runs side by side -------------------------------------------------------------------------------------------


def test_runs_go_side_by_side() -> None:
    """At most `max_concurrency` batches of one heavy model run at a time."""
    with policy("gated", max_concurrency=2, max_batch_size=1) as (broker, client):
        model = client.model("gated")
        futures = [model.submit(gated(1, number=number), timeout=120) for number in (1, 2, 3)]
        broker.gate.wait_for(1)
        broker.gate.wait_for(2)
        assert broker.gate.entries(3) == 0
        broker.gate.open(2)
        broker.gate.wait_for(3)
        futures[1].result(60)  # its run is over, but its client's thread may not have seen it yet
        assert [future.done() for future in futures] == [False, True, False]
        broker.gate.open()
        for future in futures:
            future.result(60)


# -- bounds ------------------------------------------------------------------------------------------------------


def test_a_full_queue_holds_callers_until_their_deadline() -> None:
    """A request that finds no room waits for it; at its deadline it fails with Overloaded, not DeadlineExceeded."""
    with policy("gated", max_queue_rows=3, max_batch_size=1) as (broker, client):
        model = client.model("gated")
        with held_up(broker, model, gated(1)):
            queued = queue_up(broker, model, [gated(1)] * 3)
            held = queue_up(broker, model, [gated(1)])
            with pytest.raises(Overloaded, match="max_queue_rows"):
                model.predict(gated(1), timeout=0.1)
            late = model.submit(gated(1), timeout=0.1)
            with pytest.raises(Overloaded, match="max_queue_rows"):
                late.result(60)
            queue = broker.status()["queues"]["gated"]
            assert (queue["rows"], queue["held"]) == (3, 3)
        for future in queued + held:
            future.result(60)
        model.predict(gated(1), timeout=60)
        assert in_flight(broker) == 0


def test_a_queue_is_bounded_in_bytes() -> None:
    """A queue is limited in bytes as well, so that a few large requests are as limited as many small ones."""
    with policy("gated", max_queue_bytes=1000, max_batch_size=1000) as (broker, client):
        model = client.model("gated")
        with held_up(broker, model, gated(1)):
            queued = queue_up(broker, model, [gated(100)])
            with pytest.raises(Overloaded, match="max_queue_bytes"):
                model.predict(gated(1), timeout=0.1)
        queued[0].result(60)


@pytest.mark.timeout(240)
def test_a_burst_of_a_hundred_times_the_capacity(seed: int) -> None:
    """From four workers at once: each request is answered or Overloaded, none twice, none lost, and all goes on."""

    def burst(number: int, address: str) -> tuple[int, int]:
        with worker_client.connect(address) as client:
            model = client.model("gated")
            inputs = [gated(1, 1000.0 * number + call) for call in range(200)]
            futures = [
                model.submit(each, timeout=0.5 if call % 2 else 100) for call, each in enumerate(inputs)
            ]
            answered = overloaded = 0
            for each, future in zip(inputs, futures):
                try:
                    np.testing.assert_array_equal(future.result(120)["y"], 2 * each["x"])
                    answered += 1
                except (Overloaded, worker_client.DeadlineExceeded):
                    overloaded += 1
            return answered, overloaded

    with policy("gated", max_queue_rows=8, max_batch_size=2) as (broker, client):
        with workers(4, burst, broker.address) as all_of_them:
            results = [one.result() for one in all_of_them]
        assert all(sum(result) == 200 and result[0] >= 100 for result in results)
        client.model("gated").predict(gated(1), timeout=60)
        wait_until(lambda: in_flight(broker) == 0, "nothing left in flight")
