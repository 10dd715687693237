"""A system that gives no more threads: clear errors, and everything works on once it does.

It refuses threads whose stack no address space has room for.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import worker_client
from tests.brokers import serving, wait_until
from worker_client import Overloaded

ROW = np.ones((1, 4), np.float32)
TOO_LARGE = 1 << 48  # bytes: all that a process can address, or more


@contextlib.contextmanager
def no_threads() -> Iterator[None]:
    before = threading.stack_size(TOO_LARGE)
    try:
        yield
    finally:
        threading.stack_size(before)


def test_a_worker_that_cannot_watch_its_connection_does_not_attach() -> None:
    """A worker that cannot start its watcher does not attach, and leaves nothing behind, here or in the broker."""
    with serving("double") as broker:
        with (
            no_threads(),
            pytest.raises(Overloaded, match="'onesession-watcher' cannot be started: .*ulimit -u"),
            worker_client.connect(broker.address) as client,
        ):
            client.model("double").predict(ROW)
        wait_until(lambda: not broker.workers(), "the broker to forget it")
        with worker_client.connect(broker.address) as client:
            np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)


def test_a_future_that_nobody_could_end_is_not_made() -> None:
    """A future whose thread cannot be started is refused, and its slot is free again."""
    with (
        serving("double", slots=1, max_slots=1) as broker,
        worker_client.connect(broker.address) as client,
    ):
        model = client.model("double")
        model.predict(ROW)
        with no_threads(), pytest.raises(Overloaded, match="'onesession-futures' cannot be started"):
            model.submit(ROW)
        np.testing.assert_array_equal(model.submit(ROW).result(60), ROW * 2)


def test_a_future_that_cannot_wait_for_the_next_broker_ends() -> None:
    """A future for which no retry thread can be started ends at once; nothing hangs."""
    with (
        serving("gated", "double", supervise=True) as broker,
        worker_client.connect(broker.address) as client,
    ):
        waiting = client.model("gated").submit({"number": np.int64([1]), "x": np.float32([1])})
        broker.gate.wait_for(1)
        with no_threads():
            broker.kill_engine()
            with pytest.raises(Overloaded, match="'onesession-reruns' cannot be started"):
                waiting.result(60)
        np.testing.assert_array_equal(client.model("double").submit(ROW).result(60), ROW * 2)


def test_a_heavy_model_without_its_thread_fails_its_request_alone() -> None:
    """The broker lives on, and runs the model when there are threads again."""
    with (
        serving("picky_heavy", "double", "stacks") as broker,
        worker_client.connect(broker.address) as client,
    ):
        heavy = client.model("picky_heavy")
        client.model("stacks").predict(np.int64(TOO_LARGE))
        for _ in range(2):
            with pytest.raises(Overloaded, match="'onesession-runner-picky_heavy-1' cannot be started"):
                heavy.predict(ROW)
        np.testing.assert_array_equal(client.model("double").predict(ROW), ROW * 2)
        client.model("stacks").predict(np.int64(0))
        np.testing.assert_array_equal(heavy.predict(ROW), ROW * 2)
