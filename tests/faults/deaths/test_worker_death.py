"""Workers killed at any moment: the others get right answers, memory comes back, no name is left."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import numpy as np
import pytest

import worker_client
from tests.brokers import Gate, TestBroker, serving, wait_until
from tests.workers import Talk, Worker, worker
from worker_client import Client
from worker_client.wire import control
from worker_client.wire.layout import PROTOCOL

MODELS = ("double", "tell", "gated", "gated_produce", "consume")
VICTIMS = 25
BEHIND = 10_000_000


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    with serving(*MODELS) as running:
        yield running


@pytest.fixture
def before(broker: TestBroker, client: Client) -> int:
    """Shared memory in use while `client` alone is attached."""
    check(client, 1.0)
    broker.wait_for_workers(os.getpid())
    return broker.shared_memory_bytes()


def check(client: Client, value: float) -> None:
    """One call whose answer only this value can have."""
    x = np.full((2, 4), value, np.float32)
    assert (client.model("double").predict(x, timeout=60) == 2 * value).all()


def number(of: Worker) -> int:
    """A gate number that no other worker uses."""
    return of.pid


def gated_inputs(value: int) -> dict[str, np.ndarray]:
    return {"number": np.array([value], np.int64), "x": np.ones(1, np.float32)}


def kill_and_check(broker: TestBroker, client: Client, victim: Worker, before: int) -> None:
    victim.kill()
    check_gone(broker, client, victim, before)


def check_gone(broker: TestBroker, client: Client, victim: Worker, before: int) -> None:
    """After a death: the others go on, the channel is gone, and all its memory and its names with it."""
    check(client, 2.0)
    broker.gate.open(number(victim))
    wait_until(lambda: victim.pid not in broker.workers(), "the broker to notice the death")
    wait_until(lambda: broker.shared_memory_bytes() == before, "the memory of the dead worker")
    wait_until(lambda: len(broker.names()) == 1, "only the doorbell to have a name")
    check(client, 3.0)


def attach_and_wait(talk: Talk, address: str) -> None:
    client = worker_client.connect(address)
    check(client, 1.0)
    talk.say("attached")
    talk.hear()


def test_killed_while_idle(broker: TestBroker, client: Client, before: int) -> None:
    """When a worker is killed between calls, everything in its channel is released."""
    with worker(attach_and_wait, broker.address, talk=True) as victim:
        assert victim.hear() == "attached"
        assert broker.shared_memory_bytes() > before
        kill_and_check(broker, client, victim, before)


def run_gated(address: str) -> None:
    worker_client.connect(address).model("gated").predict(gated_inputs(os.getpid()))


def test_killed_while_its_request_runs(broker: TestBroker, client: Client, before: int) -> None:
    """A worker killed while the model works for it is forgotten when that run ends, and no other worker waits for
    it."""
    with worker(run_gated, broker.address) as victim:
        broker.gate.wait_for(number(victim))
        victim.kill()
        wait_until(lambda: victim.pid not in broker.workers(), "the broker to notice the death")
        check(client, 4.0)
        assert broker.shared_memory_bytes() > before, "memory that a run still uses is no one else's"
        check_gone(broker, client, victim, before)


def wait_behind_a_run(talk: Talk, address: str, gate: Gate) -> None:
    model = worker_client.connect(address).model("gated")
    first = model.submit(gated_inputs(os.getpid()))
    gate.wait_for(os.getpid())
    waiting = [model.submit(gated_inputs(os.getpid() + BEHIND)) for _ in range(5)]
    talk.say("submitted")
    assert first.result() is None, waiting


def test_what_a_dead_worker_still_had_waiting_never_runs(
    broker: TestBroker, client: Client, before: int
) -> None:
    """Requests that waited behind a run when their worker died are dropped before they reach the model."""
    with worker(wait_behind_a_run, broker.address, broker.gate, talk=True) as victim:
        assert victim.hear() == "submitted"
        victim.kill()
        wait_until(lambda: victim.pid not in broker.workers(), "the broker to notice the death")
        check_gone(broker, client, victim, before)
        assert broker.gate.entries(number(victim) + BEHIND) == 0


def grow_output(address: str) -> None:
    model = worker_client.connect(address).model("gated_produce")
    model.predict({"number": np.int64(os.getpid()), "n": np.int64(5_000_000)})


def test_killed_before_its_grown_output_came(broker: TestBroker, client: Client, before: int) -> None:
    """An output that needs more memory than its dead worker had is given up, and nothing of it remains."""
    with worker(grow_output, broker.address) as victim:
        broker.gate.wait_for(number(victim))
        kill_and_check(broker, client, victim, before)


def die_right_after_submit(address: str) -> None:
    model = worker_client.connect(address).model("tell")
    inputs = {"x": np.ones((1, 4), np.float32), "row": np.zeros(1, np.int64)}
    for _ in range(6):
        model.submit(inputs)
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_right_after_submitting(broker: TestBroker, client: Client, before: int) -> None:
    """Requests of workers that died at once disturb no other request, and leave nothing behind."""
    for _ in range(8):
        with worker(die_right_after_submit, broker.address) as victim:
            check(client, 5.0)
            victim.wait()
            check_gone(broker, client, victim, before)


def call_for_ever(talk: Talk, address: str) -> None:
    client = worker_client.connect(address)
    talk.say("started")
    for n in range(10_000_000):
        if n % 5 == 0:
            client.model("consume").predict({"x": np.ones(20_000 * (1 + n % 7), np.uint8)})
        if n % 3 == 0:
            [client.model("double").submit(np.ones((1, 4), np.float32)) for _ in range(10)]
        check(client, float(n))
        if n % 50 == 49:
            client.close()


def test_killed_at_random_moments(
    broker: TestBroker, client: Client, before: int, rng: np.random.Generator
) -> None:
    """Wherever in attach, growth, submission or wait a worker dies, others get right answers and the memory is
    freed."""
    for _ in range(VICTIMS):
        with worker(call_for_ever, broker.address, talk=True) as victim:
            assert victim.hear() == "started"
            for n in range(int(rng.integers(0, 200))):  # the moment: so many calls of ours later
                check(client, float(n))
            victim.kill()
        check(client, 6.0)
    wait_until(lambda: broker.workers() == [os.getpid()], "the broker to notice the deaths")
    wait_until(lambda: broker.shared_memory_bytes() == before, "the memory of the dead workers")
    wait_until(lambda: len(broker.names()) == 1, "only the doorbell to have a name")


def test_names_of_those_who_died_while_attaching(broker: TestBroker, client: Client, before: int) -> None:
    """Semaphores that a worker did not live to open lose their names with its channel."""
    for stage in range(6):
        with worker(die_while_attaching, broker.address, stage) as victim:
            victim.wait()
            check_gone(broker, client, victim, before)


def die_while_attaching(address: str, stage: int) -> None:
    """Die after so many control messages, the last of them unread or read."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(address)
    messages = [
        {"op": "hello", "protocol": PROTOCOL, "id": 1},
        {"op": "attach", "id": 2},
        {"op": "slots", "id": 3},
    ]
    for message in messages[: 1 + stage // 2]:
        control.send(sock, message)
        if stage % 2:
            sock.recv(65536)
    os.kill(os.getpid(), signal.SIGKILL)
