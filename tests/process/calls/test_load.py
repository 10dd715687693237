"""Many workers at a time, every answer checked: nobody gets another's rows, and load makes batches."""

from __future__ import annotations

import os

import numpy as np

import worker_client
from tests.brokers import TestBroker, wait_until
from tests.workers import workers
from worker_client import Client, DeadlineExceeded, ModelFailed

MODELS = ("tell", "double", "picky", "picky_heavy", "produce", "mixed")
WORKERS = 8
CALLS = 3000
IN_FLIGHT = 6


MAX_BATCH = 64


def answer_is_right(x: np.ndarray, row: np.ndarray, answer: dict[str, np.ndarray]) -> bool:
    rows = min(len(x) % MAX_BATCH or MAX_BATCH, len(x))  # of the last part, where it is more than one batch
    return bool((answer["y"] == x * 2.0 + row[:, None]).all() and (answer["rows_in_batch"] >= rows).all())


def random_inputs(rng: np.random.Generator, most: int = 9) -> dict[str, np.ndarray]:
    rows = int(rng.integers(1, most))
    return {
        "x": rng.integers(-1000, 1000, (rows, 4)).astype(np.float32),
        "row": rng.integers(0, 1 << 40, rows),
    }


def map_and_check(number: int, address: str, seed: int) -> None:
    rng = np.random.default_rng([seed, number, 1])
    inputs = [random_inputs(rng) for _ in range(CALLS // 2)]
    model = worker_client.connect(address).model("tell")
    for sent, answer in zip(inputs, model.map(inputs, max_in_flight=IN_FLIGHT), strict=True):
        assert answer_is_right(**sent, answer=answer)


def test_load_makes_batches(broker: TestBroker, seed: int) -> None:
    """Workers with several requests in flight are served in batches of more than one, and each gets its own rows."""
    before = broker.counters("tell")
    with workers(WORKERS, map_and_check, broker.address, seed) as running:
        for worker in running:
            worker.result()
    after = broker.counters("tell")
    requests = after["requests"] - before["requests"]
    assert requests == WORKERS * (CALLS // 2)
    assert after["runs"] - before["runs"] < requests


def mix_and_check(number: int, address: str, seed: int) -> dict[str, int]:
    """Calls of every kind and fate in random order; how often each came out well."""
    rng = np.random.default_rng([seed, number, 2])
    client = worker_client.connect(address)
    count = dict.fromkeys(("right", "failed", "late", "cancelled"), 0)
    for _ in range(CALLS // 4):
        try:
            count[one_of_a_kind(client, rng)] += 1
        except DeadlineExceeded:
            count["late"] += 1
    return count


def one_of_a_kind(client: Client, rng: np.random.Generator) -> str:
    kind = int(rng.integers(6))
    if kind == 0:
        return call_picky(client, rng)
    if kind == 1:
        n = int(rng.integers(0, 30_000))
        y = client.model("produce").predict(np.int64(n))
        assert len(y) == n
        assert (y == np.resize(np.arange(251, dtype=np.uint8), n)).all()
    elif kind == 2:
        value = float(rng.integers(1000))
        with client.model("double").request(rows=3) as request:
            request["x"] = value
            assert (request.run()["y"] == 2 * value).all()
    elif kind == 3:
        inputs = random_inputs(rng, 200)
        assert answer_is_right(**inputs, answer=client.model("tell").submit(inputs).result())
    elif kind == 4:
        inputs = random_inputs(rng)
        timeout = float(rng.choice([0, 1e-5, 1e-4, 1e-3]))
        assert answer_is_right(**inputs, answer=client.model("tell").predict(inputs, timeout=timeout))
    else:
        futures = [client.model("double").submit(np.ones((1, 4), np.float32)) for _ in range(4)]
        return "cancelled" if sum(future.cancel() for future in futures) else "right"
    return "right"


def call_picky(client: Client, rng: np.random.Generator) -> str:
    """A third of these fail: in the batch that they join, they alone."""
    bad = rng.integers(3) == 0
    x = rng.integers(20, 1000, (2, 4)).astype(np.float32)
    if bad:
        x[1, 2] = 13
    try:
        answer = client.model(str(rng.choice(["picky", "picky_heavy"]))).predict(x)
        failed = False
    except ModelFailed:
        failed = True
    assert failed == bad
    assert failed or (answer == 2 * x).all()
    return "failed" if failed else "right"


def test_failures_timeouts_and_cancels_mix_up_nothing(broker: TestBroker, seed: int) -> None:
    """Among calls that fail, time out, are cancelled and grow their memory, every answer is still the right one."""
    with workers(WORKERS, mix_and_check, broker.address, seed) as running:
        counts = [worker.result() for worker in running]
    assert all(count["right"] and count["failed"] for count in counts)
    broker.wait_for_workers()


def come_and_go(number: int, address: str) -> None:
    for turn in range(40):
        with worker_client.connect(address) as client:
            x = np.full((1, 4), number * 100 + turn, np.float32)
            assert (client.model("double").predict(x) == 2 * x).all()


def test_workers_that_come_and_go(broker: TestBroker, client: Client) -> None:
    """Attaching and detaching hundreds of times costs neither memory nor names, and disturbs nobody."""
    assert (client.model("double").predict(np.ones((1, 4), np.float32)) == 2).all()
    with workers(WORKERS, come_and_go, broker.address) as running:
        for worker in running:
            worker.result()
    broker.wait_for_workers(os.getpid())
    wait_until(lambda: len(broker.names()) == 1, "only the doorbell to have a name")
