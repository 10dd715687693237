"""Workers that flood or stall the shared doorbell and control socket. Other workers are served meanwhile."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving
from tests.faults.hostile.test_hostile_worker import Peer, message
from tests.workers import Talk, Worker, worker
from worker_client import Client

CONNECTIONS = 50
CALLS = 100
ATTACHES = 10


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    with serving("tell") as running:
        yield running


def check(client: Client, value: int) -> None:
    rows = 1 + value % 3
    x = np.full((rows, 4), value, np.float32)
    answer = client.model("tell").predict({"x": x, "row": np.arange(rows)}, timeout=60)
    assert (answer["y"] == 2 * value + np.arange(rows)[:, None]).all()


@contextlib.contextmanager
def going_on(hostile: Callable[..., None], broker: TestBroker) -> Iterator[Worker]:
    """In the block, a worker does this; it has begun to, and is killed in the end."""
    with worker(hostile, broker.address, talk=True) as made:
        assert made.hear() == "begun"
        yield made
        assert made.is_alive, "the hostile worker gave up before the others were through"


# -- doorbell ------------------------------------------------------------------------------------------------------


def ring_for_ever(talk: Talk, address: str) -> None:
    """Post the doorbell faster than the broker can take the posts back."""
    client = worker_client.connect(address)
    check(client, 1)
    doorbell = client._connection.channel()._ring._doorbell
    for _ in range(100_000):
        doorbell.release()
    talk.say("begun")
    while True:
        for _ in range(1000):
            doorbell.release()


def test_a_doorbell_that_rings_for_ever_keeps_nobody_waiting(broker: TestBroker) -> None:
    """However often a worker rings without a request, the broker keeps taking the requests of others."""
    with worker_client.connect(broker.address) as client:
        check(client, 0)
        with going_on(ring_for_ever, broker), going_on(ring_for_ever, broker):
            for value in range(CALLS):
                check(client, value)
        check(client, 7)


# -- control socket ------------------------------------------------------------------------------------------------


def peers(address: str, attached: bool = False) -> list[Peer]:
    made = []
    for _ in range(CONNECTIONS):
        peer = Peer(address)
        peer.hello()
        if attached:
            peer.ask(op="attach")
        made.append(peer)
    return made


def stall(talk: Talk, address: str) -> None:
    """Half a message on each connection, and of some no more than its length, or more of it byte by byte."""
    made = peers(address)
    data = message(op="status", id=1)
    for number, peer in enumerate(made):
        peer.sock.sendall(data[: 1 + number % (len(data) - 1)])
    talk.say("begun")
    slow = made[::5]
    for peer in slow:
        peer.sock.sendall(struct.pack("<I", 1 << 20))
    while True:
        for peer in slow:
            with contextlib.suppress(OSError):
                peer.sock.sendall(b"\x80")


def flood(talk: Talk, address: str, data: bytes, attached: bool) -> None:
    """Ask on each connection, as fast as the broker reads, and throw the answers away."""
    made = peers(address, attached)
    for peer in made:
        peer.sock.setblocking(False)
    begun = False
    while True:
        for peer in made:
            with contextlib.suppress(BlockingIOError):
                peer.sock.send(data)
            with contextlib.suppress(BlockingIOError):
                peer.sock.recv(1 << 20)  # with it the descriptors
        if not begun:
            talk.say("begun")
            begun = True


def flood_of_status(talk: Talk, address: str) -> None:
    flood(talk, address, message(op="status", id=1) * 100, attached=False)


def flood_of_models(talk: Talk, address: str) -> None:
    flood(talk, address, message(op="models", id=1) * 100, attached=False)


def flood_of_growth(talk: Talk, address: str) -> None:
    """Ask for regions of a mebibyte repeatedly: the most work for the fewest bytes."""
    flood(talk, address, message(op="grow", id=1, slot=0, nbytes=1 << 20) * 100, attached=True)


@pytest.mark.parametrize("hostile", [stall, flood_of_status, flood_of_models, flood_of_growth])
def test_a_crowd_at_the_control_socket_keeps_nobody_waiting(
    broker: TestBroker, hostile: Callable[..., None]
) -> None:
    """While fifty connections stall or flood, others attach, grow and call; each gets its turn before the flood is
    over."""
    with going_on(hostile, broker):
        for value in range(ATTACHES):
            with worker_client.connect(broker.address, timeout=60) as client:
                check(client, value)
        with worker_client.connect(broker.address, timeout=60) as client:
            for value in range(CALLS):
                check(client, value)
