"""When traffic stops, neither the broker nor the threads of its workers use the processor."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker
from tests.workers import Talk, worker
from worker_client import Client

pytestmark = pytest.mark.alone

MODELS = ("double", "gated", "tell")
QUIET_S = 2.0
MOST_TICKS = 5
"""Of 10 ms, in QUIET_S: what start-up leftovers and a garbage collection may cost on a loaded machine."""


def ticks(pid: int) -> int:
    """utime and stime of all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def assert_quiet(*pids: int) -> None:
    """None of them uses the processor, after a moment in which what they poll for may run out."""
    time.sleep(0.5)
    before = [ticks(pid) for pid in pids]
    time.sleep(QUIET_S)
    used = [ticks(pid) - start for pid, start in zip(pids, before)]
    assert max(used) <= MOST_TICKS, used


def use(client: Client) -> None:
    x = np.ones((1, 4), np.float32)
    for _ in range(300):
        client.model("double").predict(x)
    for future in [client.model("double").submit(x) for _ in range(50)]:
        future.result()


def attach_and_wait(talk: Talk, address: str) -> None:
    client = worker_client.connect(address, timeout=1.0)
    use(client)
    talk.say()
    talk.hear()


def test_idle_after_traffic(broker: TestBroker, client: Client) -> None:
    """After calls and futures of several workers, broker and workers sleep until the next call."""
    with worker(attach_and_wait, broker.address, talk=True) as other:
        use(client)
        other.hear()
        assert_quiet(broker.pid, other.pid, os.getpid())
        use(client)
        other.say()
        other.result()


def test_idle_before_any_worker_and_after_the_last(broker: TestBroker) -> None:
    """A broker with nobody attached sleeps, also when its only worker was killed amid its calls."""

    def call_for_ever(talk: Talk, address: str) -> None:
        client = worker_client.connect(address)
        use(client)
        talk.say()
        while True:
            use(client)

    with worker(call_for_ever, broker.address, talk=True) as victim:
        victim.hear()
        victim.kill()
    assert_quiet(broker.pid)


def test_waiting_for_a_long_run_costs_nothing(broker: TestBroker, client: Client) -> None:
    """Calls and futures that wait for a slow model use no processor meanwhile."""
    inputs = {"number": np.array([5], np.int64), "x": np.ones(1, np.float32)}
    futures = [client.model("gated").submit(inputs) for _ in range(3)]

    def call(talk: Talk, address: str) -> float:
        y = worker_client.connect(address).model("gated").predict(inputs)["y"]
        return float(y[0])

    broker.gate.wait_for(5)
    with worker(call, broker.address, talk=True) as other:
        # The gate itself is polled by the model, in the broker; so only the workers are looked at.
        assert_quiet(other.pid, os.getpid())
        broker.gate.open(5)
        assert other.result() == 2.0
    assert [float(future.result()["y"][0]) for future in futures] == [2.0] * 3
