"""The intake's time slice while other threads compute in its process."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.control_plane.query import ask
from broker.host.processors import cores
from broker.own_process.time_slice import SLICE_NS, ask_for
from tests.brokers import TestBroker, serving, wait_until
from tests.workers import workers

ROW = np.ones((1, 4), np.float32)

pytestmark = pytest.mark.alone  # beside other tests a light model takes as long as a heavy one


def in_a_hurry(broker: TestBroker) -> int:
    """How many of the broker's threads have a short time slice."""
    tasks = Path(f"/proc/{broker.pid}/task").glob("*/sched")
    lines = [line.split() for task in tasks for line in task.read_text().splitlines()]
    slices = [int(words[-1]) for words in lines if words[:1] == ["se.slice"]]
    if not slices:
        pytest.skip("this kernel does not tell of slices")
    return slices.count(SLICE_NS)


@pytest.fixture(autouse=True)
def _slices() -> None:
    with ThreadPoolExecutor(1) as other:
        if not other.submit(ask_for, SLICE_NS).result(30):
            pytest.skip("this kernel has no slices to choose (Linux 6.12 has)")


def call_on(number: int, address: str) -> None:
    """Call in a closed loop until the test ends it; at most a minute."""
    model = worker_client.connect(address).model("double")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        model.predict(ROW)


def test_the_intake_has_a_short_time_slice_unless_many_workers_keep_it_busy() -> None:
    """The intake has a short time slice while its workers pause, and not while workers keep it busy."""
    with serving("double") as broker, worker_client.connect(broker.address) as client:
        for _ in range(2):
            for _ in range(10):
                client.model("double").predict(ROW)
                time.sleep(0.01)
            wait_until(lambda: in_a_hurry(broker) == 1, "short turns of the intake")
            with workers(cores() + 2, call_on, broker.address):
                wait_until(lambda: in_a_hurry(broker) == 0, "the usual turns")


@pytest.mark.parametrize("what", ["heavy", "load"])
def test_the_intake_has_a_short_time_slice_once_others_compute_beside_it(what: str) -> None:
    """The intake has a short time slice beside a heavy model's thread or a load, busy or not; these threads have
    none."""
    with serving("picky_heavy", "double") as broker, worker_client.connect(broker.address) as client:
        client.model("double").predict(ROW)
        if what == "heavy":
            client.model("picky_heavy").predict(ROW)
        else:
            ask(broker.address, "reload", 60, models=["double"])
        with workers(cores() + 2, call_on, broker.address):
            before = broker.counters("double")["requests"]
            wait_until(lambda: broker.counters("double")["requests"] > before + 1000, "a crowd's requests")
            assert in_a_hurry(broker) == 1
