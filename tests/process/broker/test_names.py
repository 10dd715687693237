"""What exists in /dev/shm, on disk and in memory maps while a broker lives and after it."""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client
from tests.brokers import SHM, TestBroker, folder, mappings_of, serving, wait_until
from tests.workers import Talk, in_child, worker
from worker_client import BrokerError, Client

MODELS = ("double", "produce", "consume", "gated")
ROW = np.ones((1, 4), np.float32)


def doorbell(broker: TestBroker) -> list[str]:
    """The one name that a broker has."""
    wait_until(lambda: len(broker.names()) == 1, "the end of the names that a worker has opened")
    names = broker.names()
    assert names[0].startswith("sem.")
    return names


def grow(client: Client) -> None:
    """Make the channel have every kind of segment: more slots, larger inputs, larger outputs."""
    model = client.model("produce")
    futures = [model.submit(np.int64(100_000 + n)) for n in range(12)]
    assert [len(future.result(60)) for future in futures] == [100_000 + n for n in range(12)]
    assert client.model("consume").predict({"x": np.ones(200_000, np.uint8)})["sum"] == 200_000


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed in this test is freed by its last reference, not by chance of the garbage collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_only_the_doorbell_has_a_name(broker: TestBroker) -> None:
    """While workers are attached and regions grow, the broker's doorbell is the only name in /dev/shm."""
    before = doorbell(broker)
    with worker_client.connect(broker.address) as client:
        client.model("double").predict(ROW)
        assert doorbell(broker) == before
        grow(client)
        assert doorbell(broker) == before
    assert doorbell(broker) == before


def test_what_exists_is_ours_alone(broker: TestBroker) -> None:
    """Doorbell, socket and lock can be opened by nobody else."""
    path = Path(broker.address)
    for file in (SHM / doorbell(broker)[0], path, path.with_name(path.name + ".lock")):
        assert stat.S_IMODE(file.stat().st_mode) & 0o177 == 0, file


def test_a_stopped_broker_leaves_nothing() -> None:
    """After a polite stop there is no name, no socket and no lock, with a worker still attached."""
    with serving(*MODELS) as broker, worker_client.connect(broker.address) as client:
        grow(client)
        broker.stop()
        assert broker.names() == []
        assert not [name for name in os.listdir(Path(broker.address).parent) if name.startswith("b.sock")]


def test_a_closed_client_frees_the_brokers_memory(broker: TestBroker) -> None:
    """When a worker has gone, the broker maps no byte of its channel any more."""
    doorbell(broker)
    broker.wait_for_workers()
    before = len(broker.mappings())
    for _ in range(3):
        with worker_client.connect(broker.address) as client:
            grow(client)
            assert len(broker.mappings()) > before
        broker.wait_for_workers()
        wait_until(lambda: len(broker.mappings()) == before, "the channel's memory unmapped")


def test_a_closed_client_frees_its_own_memory(broker: TestBroker, no_collector: None) -> None:
    """`close()` unmaps segments and semaphores and closes their descriptors, though the models' handles live on."""
    descriptors = len(os.listdir("/proc/self/fd"))
    client = worker_client.connect(broker.address)
    model = client.model("double")
    for _ in range(3):
        model.predict(ROW)
        grow(client)
        client.close()
        assert mappings_of(os.getpid(), broker.address) == []
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_slot_that_comes_back_late_is_let_go(broker: TestBroker, no_collector: None) -> None:
    """A call that is still on its way out when its client is closed leaves no memory behind, though the model's handle
    lives on."""
    client = worker_client.connect(broker.address)
    model = client.model("double")
    request = model.request()
    with request:
        client.close()
    del request
    assert mappings_of(os.getpid(), broker.address) == []
    assert model.name == "double"


def test_results_outlive_their_channel(broker: TestBroker) -> None:
    """A view of a result keeps its memory mapped, and readable, however long it lives."""
    client = worker_client.connect(broker.address)
    with client.model("produce").request() as request:
        request["n"] = 1 << 20
        y = request.run()["y"]
        client.close()
        np.testing.assert_array_equal(y[:3], [0, 1, 2])
        assert y.sum(dtype=np.int64) == np.resize(np.arange(251), 1 << 20).sum()
    del request, y
    gc.collect()
    assert mappings_of(os.getpid(), broker.address) == []


def test_a_forked_child_lets_go_of_its_parents_channel(broker: TestBroker) -> None:
    """A child maps its own channel only, so it cannot keep its dead parent's memory."""

    def child() -> list[str]:
        client.model("double").predict(ROW)
        return [line for line in mappings_of(os.getpid(), broker.address) if "/sem." not in line]

    with worker_client.connect(broker.address) as client:
        client.model("double").predict(ROW)
        grow(client)
        gc.disable()
        try:
            assert len(in_child(child)) == 1
        finally:
            gc.enable()


def test_a_dead_workers_memory_goes_with_its_last_run(broker: TestBroker) -> None:
    """The memory of a worker killed while its request runs is freed when the run ends, with no other event."""

    def call(talk: Talk) -> None:
        worker_client.connect(broker.address).model("gated").predict(
            {"number": np.array([1]), "x": np.ones(1, np.float32)}
        )

    broker.wait_for_workers()
    before = len(broker.mappings())
    with worker(call, talk=True) as caller:
        broker.gate.wait_for(1)
        caller.kill()
        wait_until(lambda: not broker.workers(), "the worker's end at the broker")
        assert broker.shared_memory_bytes() > 0
        broker.gate.open(1)
        wait_until(lambda: len(broker.mappings()) == before, "the worker's memory unmapped")
        broker.wait_for_workers()


def test_a_file_in_the_sockets_place_is_not_touched() -> None:
    """An address that is somebody's file is refused, and the file stays as it is."""
    with folder() as place:
        file = place / "precious.txt"
        file.write_text("precious")
        with pytest.raises(BrokerError, match="exists and is not a socket"), serving("double", path=file):
            pass
        assert file.read_text() == "precious"
        assert os.listdir(place) == ["precious.txt"]
