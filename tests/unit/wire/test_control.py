"""Control messages over a socket pair: framing, limits, what is no message, and descriptors."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_client.wire import control
from worker_client.wire.control import MAX_FDS, MAX_MESSAGE, Decoder, ProtocolError, encode, send
from worker_client.wire.errors import BrokerError, Overloaded

MESSAGE = {"op": "attach", "id": 7, "list": [1, None, "ä"], "bytes": b"\0\xff"}

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
messages = st.dictionaries(st.text().filter(lambda key: key != "fds"), plain, max_size=5)


class Ends:
    """Both ends of a connection, and the decoder of the one that reads."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.decoder = Decoder()

    def next(self) -> tuple[dict[str, Any], list[int]] | None:
        return self.decoder.next_message()

    def feed(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send raw bytes with descriptors, and have the decoder read once."""
        socket.send_fds(self.ours, [data], fds)
        assert self.decoder.receive(self.theirs)

    def close(self) -> None:
        self.decoder.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


@pytest.fixture
def files() -> Iterator[list[int]]:
    """Descriptors to send: of a pipe, whose writing end can tell whether the other is closed everywhere."""
    made = list(os.pipe())
    yield made
    for fd in made:
        os.close(fd)


def frame(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


@given(messages)
def test_a_message_arrives_as_it_was_sent(message: dict[str, Any]):
    """Whatever msgpack can hold comes out of the decoder equal to what went in, without descriptors."""
    ends = Ends()
    try:
        ends.feed(encode(message))
        assert ends.next() == (message, [])
        assert ends.next() is None
    finally:
        ends.close()


@pytest.mark.parametrize("cut", range(1, len(encode(MESSAGE))))
def test_a_message_may_arrive_in_two_pieces(ends: Ends, cut: int):
    """Cut at any byte, the length's own included, a message appears with its last byte and not before."""
    data = encode(MESSAGE)
    ends.feed(data[:cut])
    assert ends.next() is None
    ends.feed(data[cut:])
    assert ends.next() == (MESSAGE, [])


def test_a_message_may_arrive_byte_by_byte(ends: Ends):
    """A sender that is scheduled off after every byte changes nothing."""
    data = encode(MESSAGE)
    for index in range(len(data)):
        assert ends.next() is None
        ends.feed(data[index : index + 1])
    assert ends.next() == (MESSAGE, [])


def test_several_messages_in_one_read(ends: Ends):
    """All messages of one read come out in order, and the begun one when its rest is there."""
    last = encode({"n": 3})
    ends.feed(encode({"n": 1}) + encode({"n": 2}) + last[:5])
    assert [ends.next(), ends.next(), ends.next()] == [({"n": 1}, []), ({"n": 2}, []), None]
    ends.feed(last[5:])
    assert ends.next() == ({"n": 3}, [])


def test_the_end_of_the_connection(ends: Ends):
    """`receive` is False once the other side has closed; what came before is still there."""
    send(ends.ours, {"n": 1})
    ends.ours.close()
    assert ends.decoder.receive(ends.theirs)
    assert not ends.decoder.receive(ends.theirs)
    assert ends.next() == ({"n": 1}, [])


def test_the_largest_message_passes(ends: Ends):
    """A message of exactly MAX_MESSAGE bytes, larger than any socket buffer, is sent whole and read."""
    filler = bytes(MAX_MESSAGE - len(msgpack.packb({"x": bytes(1 << 16)})) + (1 << 16))
    message = {"x": filler}
    assert len(encode(message)) == MAX_MESSAGE + 4
    sender = threading.Thread(target=send, args=(ends.ours, message))
    sender.start()
    while (received := ends.next()) is None:
        assert ends.decoder.receive(ends.theirs)
    sender.join()
    assert received == (message, [])


def test_a_message_above_the_limit_is_not_sent():
    """`encode` refuses a message above MAX_MESSAGE, with both sizes."""
    with pytest.raises(ProtocolError, match=rf"control message of \d+ bytes; the limit is {MAX_MESSAGE}"):
        encode({"x": bytes(MAX_MESSAGE)})


@pytest.mark.parametrize("length", [MAX_MESSAGE + 1, 2**32 - 1])
def test_an_announced_length_above_the_limit_is_refused(ends: Ends, length: int):
    """A length above MAX_MESSAGE is refused on its four bytes alone: nobody's memory is filled first."""
    ends.feed(struct.pack("<I", length))
    with pytest.raises(ProtocolError, match=f"control message of {length} bytes"):
        ends.next()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "is not msgpack"),
        (b"\xc1", "is not msgpack"),
        (b"\x81\xa1x", "is not msgpack"),
        (msgpack.packb({"a": 1}) + b"\0", "is not msgpack"),
        (msgpack.packb({1: 2}), "is not msgpack"),
        (b"\x81\xa1x\xa1\xff", "is not msgpack"),
        (b"\x91" * 10_000, "is not msgpack"),
        (b"\xdf\xff\xff\xff\xff", "is not msgpack"),
        (msgpack.packb([1, 2]), "is list, not a map"),
        (msgpack.packb("hello"), "is str, not a map"),
        (msgpack.packb(None), "is NoneType, not a map"),
    ],
)
def test_what_is_no_message(ends: Ends, body: bytes, why: str):
    """Bytes that are not msgpack, or not a map with text keys, raise ProtocolError."""
    ends.feed(frame(body))
    with pytest.raises(ProtocolError, match=why):
        ends.next()


@given(st.binary(max_size=200))
def test_garbage_is_no_message(body: bytes):
    """Any framed bytes are a map or a ProtocolError, never another exception."""
    ends = Ends()
    try:
        ends.feed(frame(body))
        message, _ = ends.next() or (None, [])
        assert isinstance(message, dict)
    except ProtocolError:
        pass
    finally:
        ends.close()


def same_file(one: int, other: int) -> bool:
    return os.path.sameopenfile(one, other)


def test_descriptors_come_with_their_message(ends: Ends, files: list[int]):
    """A message that is sent with descriptors is read with as many, in order, on the same files."""
    send(ends.ours, {"op": "output"}, files)
    assert ends.decoder.receive(ends.theirs)
    message, fds = ends.next()
    try:
        assert message == {"op": "output", "fds": 2}
        assert [same_file(*pair) for pair in zip(fds, files, strict=True)] == [True, True]
        assert not any(os.get_inheritable(fd) for fd in fds)
    finally:
        for fd in fds:
            os.close(fd)


def test_descriptors_go_to_the_messages_that_announce_them(ends: Ends, files: list[int]):
    """Where several messages arrive in one read, each takes the descriptors it announced and no other's."""
    data = encode({"n": 1, "fds": 1}) + encode({"n": 2}) + encode({"n": 3, "fds": 1})
    ends.feed(data, tuple(files))
    received = [ends.next() for _ in range(3)]
    taken = [fds for _, fds in received]
    try:
        assert [len(fds) for fds in taken] == [1, 0, 1]
        assert same_file(taken[0][0], files[0])
        assert same_file(taken[2][0], files[1])
    finally:
        for fd in (*taken[0], *taken[2]):
            os.close(fd)


@pytest.mark.parametrize("count", [3, -1, "1", 1.0, None, [1]])
def test_descriptors_that_did_not_come(ends: Ends, files: list[int], count: Any):
    """A message that announces descriptors which are not there, or no number of them, is refused."""
    ends.feed(encode({"fds": count}), tuple(files))
    with pytest.raises(ProtocolError, match="announces .* descriptors, 2 came"):
        ends.next()


def test_too_many_descriptors(ends: Ends, files: list[int]):
    """A peer that sends descriptors which no message wants is refused before it has used up our table."""
    ends.feed(b"\0", (files[0],) * MAX_FDS)
    with pytest.raises(ProtocolError, match="more descriptors than the messages announce"):
        ends.feed(b"\0", (files[0],))


def test_unclaimed_descriptors_are_closed(ends: Ends):
    """`close` closes the descriptors that came with no message."""
    reading, writing = os.pipe()
    try:
        ends.feed(encode({"n": 1}), (writing,))
    finally:
        os.close(writing)
    assert ends.next() == ({"n": 1}, [])
    os.set_blocking(reading, False)
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)  # somebody can still write
    ends.decoder.close()
    assert os.read(reading, 1) == b""  # nobody can
    os.close(reading)


def test_a_large_message_keeps_its_descriptors(ends: Ends, files: list[int]):
    """A message that takes several sends and reads still has its descriptors when it is whole."""
    message = {"x": bytes(1 << 20)}
    sender = threading.Thread(target=send, args=(ends.ours, message, files[:1]))
    sender.start()
    while (received := ends.next()) is None:
        assert ends.decoder.receive(ends.theirs)
    sender.join()
    assert received[0] == {**message, "fds": 1}
    (fd,) = received[1]
    assert same_file(fd, files[0])
    os.close(fd)


def test_an_error_crosses_in_a_reply():
    """The error in a reply is raised on the other side with its class and message; other replies pass."""
    reply = msgpack.unpackb(msgpack.packb({"re": 1, **control.error_fields(Overloaded("raise max_slots"))}))
    with pytest.raises(Overloaded, match=r"^raise max_slots$"):
        control.raise_if_error(reply)
    assert control.raise_if_error({"re": 1}) == {"re": 1}


def test_an_error_text_that_is_not_unicode_crosses():
    """An error that quotes a file name of undecodable bytes can be sent like any other."""
    error = BrokerError(f"cannot read {os.fsdecode(bytes([0x6D, 0xFF]))}")
    assert encode(control.error_fields(error))


def test_the_peer_is_known_to_the_kernel(ends: Ends):
    """The other end's process and user are what the kernel says, not what it claims."""
    assert control.peer_of(ends.theirs) == (os.getpid(), os.geteuid())
