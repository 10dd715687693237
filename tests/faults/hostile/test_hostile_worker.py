"""Workers that write garbage, into shared memory and into the control socket, beside one that behaves."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest

import worker_client
from broker.control_plane import query
from tests.brokers import TestBroker, serving, wait_until
from tests.workers import Worker, worker
from worker_client import BrokerError, Client
from worker_client.calls.channel import Channel
from worker_client.wire import control
from worker_client.wire.layout import ENTRIES_WORD, HEAD_WORD, PROTOCOL, SLOT_HEADER, TAIL_WORD

MODELS = ("double", "tell", "mixed", "consume", "picky_heavy", "produce")
ROUNDS = 400
INTERESTING = (
    0,
    1,
    2,
    7,
    8,
    63,
    255,
    256,
    4095,
    4096,
    1 << 31,
    1 << 32,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    with serving(*MODELS) as running:
        yield running


@pytest.fixture
def honest(broker: TestBroker) -> Iterator[Client]:
    """A client whose answers are checked all the while; the broker must be whole at the end, and rid of the others."""
    with worker_client.connect(broker.address) as client:
        pid = broker.pid
        stop = threading.Event()
        thread = threading.Thread(target=keep_checking, args=(client, stop, failures := []))
        thread.start()
        try:
            check(client, 1)
            broker.wait_for_workers(os.getpid())
            yield client
        finally:
            stop.set()
            thread.join()
        assert not failures, failures[0]
        broker.wait_for_workers(os.getpid())
        assert broker.status()["pid"] == pid
        wait_until(lambda: len(broker.names()) == 1, "only the doorbell to have a name")


def keep_checking(client: Client, stop: threading.Event, failures: list[BaseException]) -> None:
    value = 0
    try:
        while not stop.is_set():
            value = (value + 1) % 10_000
            check(client, value)
            time.sleep(0.001)  # traffic, not load: leave cores for the hostile workers
    except BaseException as error:
        failures.append(error)


def check(client: Client, value: int) -> None:
    rows = 1 + value % 3
    x = np.full((rows, 4), value, np.float32)
    answer = client.model("tell").predict({"x": x, "row": np.arange(rows)}, timeout=60)
    assert (answer["y"] == 2 * value + np.arange(rows)[:, None]).all()


def word(rng: np.random.Generator) -> int:
    if rng.integers(2):
        return INTERESTING[rng.integers(len(INTERESTING))]
    return int(rng.integers(0, 1 << 63)) >> int(rng.integers(0, 60))


# -- shared memory -------------------------------------------------------------------------------------------------


def attached(address: str) -> tuple[Client, Channel]:
    """A channel to spoil, with every slot used once, so that its tables are valid ones."""
    client = worker_client.connect(address, timeout=0.05)
    row = np.ones((2, 4), np.float32)
    client.model("double").predict(row, timeout=60)
    channel = client._connection.channel()
    for future in [client.model("double").submit(row, timeout=60) for _ in channel.slots]:
        future.result()
    return client, channel


def push(channel: Channel, entry: int, posts: int = 1) -> None:
    """Submit by hand, whatever it is: an entry, the tail, the posts."""
    ring, words = channel._ring, channel._words
    words[ENTRIES_WORD + words[TAIL_WORD] % 256] = entry
    words[TAIL_WORD] = (words[TAIL_WORD] + 1) % (1 << 64)
    for _ in range(posts):
        ring._submitted.release()
        ring._doorbell.release()


def spoil_headers(channel: Channel, rng: np.random.Generator) -> None:
    slot = channel.slots[rng.integers(len(channel.slots))]
    for _ in range(rng.integers(1, 6)):
        slot.words[int(rng.integers(SLOT_HEADER // 8))] = word(rng)
    push(channel, slot.index)


def spoil_tables(channel: Channel, rng: np.random.Generator) -> None:
    slot = channel.slots[rng.integers(len(channel.slots))]
    table = slot.input.memory.cast("Q")
    for _ in range(rng.integers(1, 6)):
        table[int(rng.integers(12))] = word(rng)
    slot.words[2] = int(rng.choice([8, 40, 48, 56, 64, 96, 4096, 90_000]))
    push(channel, slot.index)


def spoil_ring(channel: Channel, rng: np.random.Generator) -> None:
    at = int(rng.choice([TAIL_WORD, HEAD_WORD, 0, ENTRIES_WORD, ENTRIES_WORD + 255]))
    channel._words[at] = word(rng)
    push(channel, word(rng), posts=int(rng.integers(4)))


def spoil_posts(channel: Channel, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 300)):
        channel._ring._submitted.release()
        channel._ring._doorbell.release()
        channel.slots[rng.integers(len(channel.slots))].completed.release()
    push(channel, int(rng.integers(len(channel.slots))), posts=int(rng.integers(3)))


def spoil_everything(channel: Channel, rng: np.random.Generator) -> None:
    segment = np.frombuffer(channel._segments[0].bytes, np.uint8)
    start = int(rng.integers(len(segment)))
    segment[start : start + 3000] = rng.integers(0, 256, len(segment[start : start + 3000]), np.uint8)
    push(channel, int(rng.integers(2 * len(channel.slots))))


Spoil = Callable[[Channel, np.random.Generator], None]


def spoil_in_rounds(address: str, spoil: Spoil, seed: list[int]) -> None:
    """Spoil channel after channel; it does not matter what happens to this worker."""
    rng = np.random.default_rng(seed)
    for _ in range(ROUNDS // 10):
        client, channel = attached(address)
        for _ in range(10):
            if channel.open:
                spoil(channel, rng)
        try:
            client.model("double").predict(np.ones((1, 4), np.float32))
        except BrokerError:
            pass
        channel._free.clear()
        channel._link.close()


@pytest.mark.parametrize(
    "spoil",
    [spoil_headers, spoil_tables, spoil_ring, spoil_posts, spoil_everything],
    ids=lambda f: f.__name__,
)
def test_garbage_in_shared_memory_hurts_nobody_else(
    broker: TestBroker, honest: Client, seed: int, spoil: Spoil
) -> None:
    """Whatever a worker writes into its segments and semaphores, the broker lives and others' answers are right."""
    with worker(spoil_in_rounds, broker.address, spoil, [seed, 1]) as hostile:
        hostile.result()


def spin_tail(address: str) -> None:
    _client, channel = attached(address)
    channel._words[TAIL_WORD] += 5
    channel._ring._doorbell.release()
    threading.Event().wait()


@pytest.mark.alone
def test_a_tail_ahead_of_its_posts_keeps_nobody_busy(broker: TestBroker) -> None:
    """A worker that died or stopped between a store and its post does not make the broker spin."""
    with worker(spin_tail, broker.address) as stopped:
        wait_until(lambda: stopped.pid in broker.workers(), "it to attach")
        engine = psutil.Process(broker.pid)
        time.sleep(0.2)  # the store comes after the attach; nothing tells when
        before = sum(engine.cpu_times()[:2])
        time.sleep(1)
        assert sum(engine.cpu_times()[:2]) - before < 0.5, "CPU seconds in one second"


def refused_for_ever(address: str) -> None:
    _client, channel = attached(address)
    slot = channel.slots[0]
    slot.words[1] = 999  # no such signature: refused at once, so the slot may come again at once
    while True:
        push(channel, 0)
        slot.completed.acquire()


def test_a_flood_of_refused_requests_starves_nobody(broker: TestBroker, honest: Client) -> None:
    """While requests are refused as fast as they come, others still get their turn."""
    with worker(refused_for_ever, broker.address) as flooding:
        wait_until(lambda: flooding.pid in broker.workers(), "it to attach")
        for value in range(300):
            check(honest, value)


def test_another_slot_twice_in_flight_closes_the_channel(broker: TestBroker, honest: Client) -> None:
    """A worker that submits a slot which the broker has is cut off."""

    def twice(address: str) -> bool:
        client, channel = attached(address)
        slot = channel.claim(64, 1 << 62)
        slot.words[1] = client.models()["picky_heavy"].signatures["serving_default"].id
        for _ in range(3):
            push(channel, slot.index)
        wait_until(lambda: not channel.open, "the broker to hang up")
        return True

    with worker(twice, broker.address) as hostile:
        assert hostile.result()


# -- control socket ------------------------------------------------------------------------------------------------


class Peer:
    """A bare connection to the control socket."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        wait_until(lambda: self.sock.connect_ex(address) == 0, "room in the broker's backlog")
        self.decoder = control.Decoder()

    def ask(self, **message: Any) -> dict[str, Any]:
        control.send(self.sock, {"id": 1, **message})
        while (item := self.decoder.next_message()) is None:
            assert self.decoder.receive(self.sock), "hung up"
        for fd in item[1]:
            os.close(fd)
        return item[0]

    def hello(self) -> None:
        assert "error" not in self.ask(op="hello", protocol=PROTOCOL)

    def is_cut_off(self) -> bool:
        """The broker hangs up (within the socket's time-out)."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.sock.close()
        self.decoder.close()


@pytest.fixture
def peer(broker: TestBroker) -> Iterator[Peer]:
    peer = Peer(broker.address)
    yield peer
    peer.close()


def message(**fields: Any) -> bytes:
    return control.encode(fields)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\xff" * 64,
        struct.pack("<I", control.MAX_MESSAGE + 1),
        struct.pack("<I", 0),
        struct.pack("<I", 3) + b"\xc1\xc1\xc1",
        struct.pack("<I", 1) + b"\x2a",
        message(op="no such thing", id=1),
        message(op=["hello"], id=1),
        message(op={"a": 1}, id=1),
        message(id=1),
        message(op="status", id=1, fds=3),
        message(op="status", id=1, fds="many"),
        message(op="attach", id=1),
        message(op="status", id=1),
        message(op="grow", id=1, slot=0, nbytes=4096),
        message(op="hello", protocol=PROTOCOL, id=[1]),
    ],
    ids=repr,
)
def test_nonsense_is_cut_off(broker: TestBroker, honest: Client, peer: Peer, data: bytes) -> None:
    """Data that is not a message, or a message that may not come before hello, costs only the sender its connection."""
    peer.sock.sendall(data)
    assert peer.is_cut_off()


@pytest.mark.parametrize("op", ["opened", "slots", "grow"])
def test_requests_for_a_channel_need_one(broker: TestBroker, honest: Client, peer: Peer, op: str) -> None:
    """A peer that has not attached cannot grow anything."""
    peer.hello()
    peer.sock.sendall(message(op=op, id=2, slot=0, nbytes=4096))
    assert peer.is_cut_off()


def test_attaching_twice_is_cut_off(broker: TestBroker, honest: Client, peer: Peer) -> None:
    """One connection has one channel."""
    peer.hello()
    assert "block" in peer.ask(op="attach")
    peer.sock.sendall(message(op="attach", id=3))
    assert peer.is_cut_off()


def test_another_protocol_is_told_so(broker: TestBroker, honest: Client, peer: Peer) -> None:
    """A worker of another version learns which the two are."""
    for theirs in (PROTOCOL + 1, "1", None, [], {"a": [1] * 100}):
        assert "protocol" in peer.ask(op="hello", protocol=theirs)["error"][1]


@pytest.mark.parametrize(
    ("slot", "nbytes"),
    [(slot, 4096) for slot in (-1, 8, 1 << 63, 0.5, "0", None, [0], {})]
    + [(0, nbytes) for nbytes in (0, -1, 1 << 41, 1 << 63, "4096", None, 1.5, [])],
)
def test_wrong_growth_is_refused(
    broker: TestBroker, honest: Client, peer: Peer, slot: Any, nbytes: Any
) -> None:
    """An impossible slot or size is answered with an error, and takes no memory."""
    peer.hello()
    peer.ask(op="attach")
    used = broker.shared_memory_bytes()
    assert "error" in peer.ask(op="grow", slot=slot, nbytes=nbytes)
    assert broker.shared_memory_bytes() == used


def test_half_a_message_delays_nobody(broker: TestBroker, honest: Client, peer: Peer) -> None:
    """A peer may stop in the middle of a message: others are served, and it is when the rest has come."""
    data = message(op="hello", protocol=PROTOCOL, id=1)
    for byte in data[:-1]:
        peer.sock.sendall(bytes([byte]))
    check(honest, 7)
    query.ask(broker.address, "status")
    peer.sock.sendall(data[-1:])
    assert peer.decoder.receive(peer.sock)
    assert peer.decoder.next_message()


def test_a_peer_that_never_reads_is_cut_off(broker: TestBroker, honest: Client, peer: Peer) -> None:
    """Answers that nobody reads fill that peer's own outbox until it is closed, and delay nobody."""
    peer.hello()
    peer.ask(op="attach")
    peer.sock.settimeout(0.2)
    questions = message(op="models", id=1) * 500

    def ask_on() -> None:
        for _ in range(1000):
            peer.sock.sendall(questions)

    with pytest.raises((ConnectionError, TimeoutError)):
        ask_on()
    check(honest, 7)
    closed = select.poll()
    closed.register(peer.sock, select.POLLRDHUP)  # reading would make room for more answers
    assert closed.poll(60_000)


def test_unread_segments_leak_no_descriptor(broker: TestBroker, honest: Client) -> None:
    """Segments that a peer asks for and never reads are closed with its connection."""
    engine = psutil.Process(broker.pid)
    before = engine.num_fds()
    for number in range(10):
        peer = Peer(broker.address)
        peer.hello()
        peer.ask(op="attach")
        peer.sock.sendall(
            message(op="models", id=1) * 400 + message(op="grow", id=1, slot=0, nbytes=9999) * 400
        )
        if number % 2:
            peer.sock.shutdown(socket.SHUT_WR)
            peer.is_cut_off()
        peer.close()
    broker.wait_for_workers(os.getpid())
    wait_until(lambda: engine.num_fds() <= before, f"{before} descriptors, as before")


def test_descriptors_that_come_unasked_are_closed(broker: TestBroker, honest: Client) -> None:
    """Descriptors sent to the broker do not stay open in it."""
    engine = psutil.Process(broker.pid)
    before = engine.num_fds()
    for count in (1, 5, 16, 17, 100):
        peer = Peer(broker.address)
        data = message(op="hello", protocol=PROTOCOL, id=1, fds=min(count, 16))
        socket.send_fds(peer.sock, [data], [0] * count)
        peer.sock.sendall(message(op="status", id=1))
        peer.sock.shutdown(socket.SHUT_WR)
        peer.is_cut_off()
        peer.close()
    wait_until(lambda: engine.num_fds() <= before, f"{before} descriptors, as before")


def connect_often(address: str, seed: list[int]) -> None:
    rng = np.random.default_rng(seed)
    good = [
        message(op=op, id=n, slot=n % 9, nbytes=5000 * n)
        for n, op in enumerate(["attach", "slots", "grow", "models", "status", "opened"])
    ]
    for _ in range(ROUNDS):
        peer = Peer(address)
        try:
            peer.sock.sendall(message(op="hello", protocol=PROTOCOL, id=1))
            stream = b"".join(good[n] for n in rng.integers(0, len(good), 6))
            spoilt = bytearray(stream)
            for at in rng.integers(0, len(spoilt), rng.integers(0, 4)):
                spoilt[at] = rng.integers(256)
            peer.sock.sendall(spoilt[: rng.integers(1, len(spoilt) + 1)])
        except OSError:
            pass
        peer.close()


def test_spoilt_streams_of_messages_hurt_nobody_else(broker: TestBroker, honest: Client, seed: int) -> None:
    """Right messages with wrong bytes in them, cut anywhere, leave broker and others as they were."""
    used = broker.shared_memory_bytes()
    hostile: Worker
    with worker(connect_often, broker.address, [seed, 2]) as hostile:
        hostile.result()
    wait_until(lambda: broker.shared_memory_bytes() == used, "the memory of the peers")
