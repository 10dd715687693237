"""Control messages that no client would send, to a real control server in this process."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broker.config.settings import Settings
from broker.server.server import Server
from tests.brokers import folder, wait_until
from tests.faults.fuzz.complaints import Complaints, complaints
from tests.faults.fuzz.models import SPECS
from worker_client.wire import control
from worker_client.wire.layout import PROTOCOL

OPS = ("hello", "attach", "opened", "slots", "grow", "event", "models", "ad_hoc", "status", "output")
EXAMPLES = 150
MANY_EXAMPLES = 20_000


class Broker:
    """A server in this process, and a peer that behaves."""

    def __init__(self, path: Path, heard: Complaints) -> None:
        self.address = os.fspath(path)
        self.heard = heard
        self.server = Server(Settings(models=tuple(SPECS), address=self.address, max_total_bytes=1 << 24))
        self.server.start()

    def check(self) -> None:
        """Check that all others are served, and that the broker has logged no failure of its own."""
        self.heard.check()
        with connected(self.address) as peer:
            send(peer, {"op": "hello", "protocol": PROTOCOL, "id": 1})
            send(peer, {"op": "status", "id": 2})
            decoder = control.Decoder()
            answers: list[dict[str, Any]] = []
            while len(answers) < 2:
                assert decoder.receive(peer), "hung up on a peer that behaves"
                while (item := decoder.next_message()) is not None:
                    answers.append(item[0])
        assert answers[1]["status"]["pid"] == os.getpid()
        self.heard.check()

    def is_quiet(self) -> bool:
        """All others are gone, and their memory with them."""
        return not self.server.control.sessions and not self.server.memory.used_bytes


@contextlib.contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(30)
        peer.connect(address)
        yield peer


def send(peer: socket.socket, message: Any) -> None:
    peer.sendall(framed(msgpack.packb(message)))


def framed(body: bytes, length: int | None = None) -> bytes:
    return struct.pack("<I", len(body) if length is None else length) + body


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with folder() as place, complaints("control", "server", "intake", "runner") as heard:
        made = Broker(place / "b.sock", heard)
        try:
            yield made
        finally:
            made.server.stop()


# -- what is sent --------------------------------------------------------------------------------------------------

numbers = st.integers(-(2**63), 2**64 - 1) | st.sampled_from(
    [-1, 0, 1, 7, 8, 63, 64, 4096, 1 << 20, 1 << 24, 1 << 31, 1 << 40, (1 << 40) + 1, 2**63, 2**64 - 1]
)
plain = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from([spec.name for spec in SPECS]) | st.text(max_size=10) | plain
fields = {
    "id": st.integers(0, 1000) | plain,
    "protocol": st.just(PROTOCOL) | plain,
    "slot": st.integers(-1, 9) | plain,
    "nbytes": numbers | plain,
    "model": names,
    "feeds": st.lists(names, max_size=4) | plain,
    "fetches": st.lists(names, max_size=4) | plain,
    "fds": st.integers(0, 20) | plain,
    "error": plain,
    "re": plain,
}
messages = st.fixed_dictionaries({"op": st.sampled_from(OPS) | plain}, optional=fields)
bodies = st.one_of(
    messages.map(msgpack.packb),
    st.dictionaries(plain.filter(lambda key: key.__hash__ is not None), plain, max_size=3).map(msgpack.packb),
    plain.map(msgpack.packb),
    st.binary(max_size=200),
    st.integers(1, 3000).map(lambda depth: b"\x91" * depth + b"\xc0"),
    st.sampled_from(
        [b"", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc7\xff\xff", b"\x80"]
    ),
)
lengths = st.none() | st.sampled_from([0, 1, 3, control.MAX_MESSAGE, control.MAX_MESSAGE + 1, 2**32 - 1])


@st.composite
def frames(draw: Callable[..., Any]) -> tuple[bytes, int]:
    """The bytes of a frame, whole or cut, and how many descriptors come with them."""
    data = framed(draw(bodies), draw(lengths) if draw(st.integers(0, 9)) == 0 else None)
    if draw(st.integers(0, 9)) == 0:
        data = data[: draw(st.integers(1, max(1, len(data) - 1)))]
    return data, draw(st.just(0) | st.integers(0, control.MAX_FDS + 4)) if draw(st.integers(0, 5)) == 0 else 0


greeting = framed(msgpack.packb({"op": "hello", "protocol": PROTOCOL, "id": 0})), 0
attaching = framed(msgpack.packb({"op": "attach", "id": 0})), 0
beginnings = st.sampled_from([[], [greeting], [greeting, attaching], [greeting, attaching]])
conversations = st.tuples(beginnings, st.lists(frames(), max_size=12)).map(
    lambda parts: [*parts[0], *parts[1]]
)


def say(address: str, frames: list[tuple[bytes, int]]) -> None:
    """Send all of it, as long as the broker reads."""
    with connected(address) as peer, contextlib.suppress(ConnectionError):
        for data, fds in frames:
            sent = socket.send_fds(peer, [data], [0] * fds) if fds else 0
            peer.sendall(data[sent:])
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(1 << 16):
            pass


def check_conversation(broker: Broker, frames: list[tuple[bytes, int]]) -> None:
    say(broker.address, frames)
    broker.check()


relaxed = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))


@relaxed
@given(conversations)
@example([greeting, (framed(msgpack.packb({"op": "ad_hoc", "model": "double", "feeds": 5, "id": 1})), 0)])
@example([greeting, (framed(msgpack.packb({"op": "ad_hoc", "model": "double", "id": 1})), 0)])
@example(
    [greeting, attaching, (framed(msgpack.packb({"op": "grow", "slot": True, "nbytes": True, "id": 1})), 0)]
)
@example([greeting, (framed(msgpack.packb({"op": "models", "id": 2**64 - 1, "fds": True})), 1)])
def test_a_conversation_harms_nobody_else(broker: Broker, frames: list[tuple[bytes, int]]):
    """Whatever a peer sends, in whatever order, the broker answers or hangs up, and serves the others."""
    check_conversation(broker, frames)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(relaxed, max_examples=MANY_EXAMPLES)
@given(conversations)
def test_many_conversations_harm_nobody_else(broker: Broker, frames: list[tuple[bytes, int]]):
    """Many conversations do no more harm than one."""
    check_conversation(broker, frames)


def test_conversations_leave_nothing(broker: Broker):
    """When all those peers are gone, so are their sessions, their memory and the descriptors that came from them."""
    wait_until(broker.is_quiet, "the peers' sessions and memory to go")
    before = psutil.Process().num_fds()
    for _ in range(20):
        # The broker may hang up as soon as it has read the third.
        with connected(broker.address) as peer, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for data, fds in (greeting, attaching, (framed(b"\x80"), 7), (framed(b"\x80")[:2], 9)):
                socket.send_fds(peer, [data], [0] * fds)
    wait_until(broker.is_quiet, "the peers' sessions and memory to go")
    wait_until(lambda: psutil.Process().num_fds() <= before, f"{before} descriptors, as before")
