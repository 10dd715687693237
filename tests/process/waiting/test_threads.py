"""Threads that share a channel: each slot has one owner at any moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving, wait_until
from worker_client import Client, DeadlineExceeded, Overloaded
from worker_client.ipc import semaphore

MODELS = ("tell", "gated", "double")
THREADS = 16
CALLS = 250


def gated(number: int) -> dict[str, np.ndarray]:
    return {"number": np.array([number], np.int64), "x": np.ones(1, np.float32)}


def test_threads_of_every_kind_share_a_client(client: Client, seed: int) -> None:
    """Sixteen threads that predict, submit, write in place, time out and cancel get the answers to what they sent."""

    def calls(thread: int) -> int:
        rng = np.random.default_rng([seed, thread])
        model = client.model("tell")
        late = 0
        for _ in range(CALLS):
            rows = int(rng.integers(1, 6))
            inputs = {
                "x": rng.normal(size=(rows, 4)).astype(np.float32),
                "row": rng.integers(0, 1 << 40, rows),
            }
            kind = int(rng.integers(5))
            if kind == 0:
                y = model.submit(inputs).result()["y"]
            elif kind == 1:
                with model.request(rows) as request:
                    request["x"], request["row"] = inputs["x"], inputs["row"]
                    y = request.run()["y"].copy()
            elif kind == 2:
                model.submit(inputs).cancel()
                continue
            else:
                try:
                    y = model.predict(
                        inputs, timeout=60 if kind == 3 else float(rng.choice([1e-5, 1e-4, 1e-3]))
                    )["y"]
                except (DeadlineExceeded, Overloaded):  # while its own answer, or a slot, was still to come
                    late += 1
                    continue
            assert (y == inputs["x"] * 2.0 + inputs["row"][:, None]).all()
        return late

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(calls, range(THREADS)))


def test_the_first_calls_of_many_threads_attach_once(broker: TestBroker) -> None:
    """Threads whose first calls come at the same time share one channel."""
    with worker_client.connect(broker.address) as client, ThreadPoolExecutor(THREADS) as pool:
        ready = threading.Barrier(THREADS)

        def first_call(thread: int) -> bool:
            ready.wait(30)
            x = np.full((1, 4), thread, np.float32)
            return bool((client.model("double").predict(x) == 2 * x).all())

        assert all(pool.map(first_call, range(THREADS)))
        assert len(broker.workers()) == 1


def test_one_thread_at_a_time_takes_an_abandoned_slot_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that one thread is taking back is not taken back, and given to a new call, by another meanwhile."""
    with serving("gated", slots=1, max_slots=1) as broker, worker_client.connect(broker.address) as client:
        with pytest.raises(DeadlineExceeded):
            client.model("gated").predict(gated(1), timeout=0.2)
        broker.gate.open()
        channel = client._connection.channel()
        (slot,) = channel.slots
        wait_until(lambda: slot.done, "the answer that nobody waits for")
        free_meanwhile = []

        def another_reaps(completed: semaphore.Semaphore) -> bool:
            monkeypatch.undo()
            channel._reap()
            free_meanwhile.append(len(channel._free))
            return semaphore.try_acquire(completed)

        monkeypatch.setattr(semaphore, "try_acquire", another_reaps)
        channel._reap()
        assert free_meanwhile == [0]
        assert list(channel._free) == [slot]
        assert client.model("gated").predict(gated(0))["y"] == [2]
