"""The control plane: msgpack messages on a Unix stream socket, each after its length, with descriptors.

    +----------------+------------------------+
    | length, u32 LE | msgpack map            |   <= MAX_MESSAGE bytes
    +----------------+------------------------+

A request carries "op" and "id"; its reply carries "re" with that id, and "error" (a status code and a message) if it
failed. A message that the broker sends unasked carries "op" and no "id". A descriptor (SCM_RIGHTS) belongs to the
message in whose bytes it arrived; a message with "fds": n takes the next n descriptors.

| op      | from   | means                                                                |
|---------|--------|----------------------------------------------------------------------|
| hello   | worker | protocol and version; the broker answers with its own                |
| attach  | worker | give me a channel; the reply brings its segment and the names of its semaphores |
| opened  | worker | I have opened these semaphores: remove their names (no reply)        |
| slots   | worker | give me another block of slots                                       |
| grow    | worker | the slot needs an input region of this many bytes                    |
| models  | anyone | list models, versions and signatures                                 |
| models  | broker | the same, sent to every worker when any of it changes                |
| ad_hoc  | worker | give me a number for these feeds and fetches of the model's graph    |
| foreign | worker | an answer belonged to another request; I close the connection (no reply) |
| shrink  | worker | I cannot map the new region of my slot: give it its first regions again |
| event   | worker | give me an event for which my event loop can wait                    |
| reload  | anyone of the broker's user | bring models up to date; answered when that is done |
| status  | anyone | give me the data that `onesession status` prints                         |
| output  | broker | the slot has a new output region; its descriptor comes with this     |
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgpack

from worker_client.wire.documented import shown_as_documented
from worker_client.wire.errors import BrokerError, from_status, status_of

MAX_MESSAGE = 4 << 20
MAX_FDS = 16
NO_ROOM = -1  # in place of a descriptor for which the receiver had no number left
_LENGTH = struct.Struct("<I")
_READ = 64 << 10
# it grows; msgpack's default buffer would be mapped for each message, which a limit may forbid
_FIRST_BUFFER = 4096
_FD_BYTES = struct.calcsize("i")
_FDS_ROOM = socket.CMSG_LEN(MAX_FDS * _FD_BYTES)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.send.restype = ctypes.c_ssize_t
_libc.send.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]

Message = dict[str, Any]


@shown_as_documented
class ProtocolError(BrokerError):
    """The other side sent something that is not a message of this protocol."""


def encode(message: Message) -> bytes:
    # A message may contain a file name of arbitrary bytes.
    body = msgpack.packb(message, unicode_errors="backslashreplace", buf_size=_FIRST_BUFFER)
    if len(body) > MAX_MESSAGE:
        raise ProtocolError(f"control message of {len(body)} bytes; the limit is {MAX_MESSAGE}")
    return _LENGTH.pack(len(body)) + bytes(body)


def error_fields(error: BrokerError) -> Message:
    text = str(error).encode("utf-8", "replace").decode()  # it may quote a file name of undecodable bytes
    return {"error": [status_of(error), text]}


def raise_if_error(reply: Message) -> Message:
    if "error" in reply:
        raise from_status(*reply["error"])
    return reply


class Decoder:
    """Turns the bytes and descriptors of one socket into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: deque[int] = deque()

    def receive(self, sock: socket.socket) -> bool:
        """Read once from the socket. False at the end of the stream."""
        # Not socket.recv_fds: it drops its flags (CPython 3.11), so the descriptors would outlive an exec().
        data, ancillary, flags, _peer = sock.recvmsg(_READ, _FDS_ROOM, socket.MSG_CMSG_CLOEXEC)
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._fds.extend(memoryview(raw)[: len(raw) & -_FD_BYTES].cast("i"))
        if flags & socket.MSG_CTRUNC and not ancillary:
            self._fds.append(NO_ROOM)
        if len(self._fds) > MAX_FDS:
            raise ProtocolError("more descriptors than the messages announce")
        self._buffer += data
        return bool(data)

    def next_message(self) -> tuple[Message, list[int]] | None:
        """The next whole message with its descriptors, or None. Raises ProtocolError."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_MESSAGE:
            raise ProtocolError(f"control message of {length} bytes; the limit is {MAX_MESSAGE}")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        message = _unpack(bytes(self._buffer[_LENGTH.size : end]))
        del self._buffer[:end]
        return message, self._take_fds(message)

    def _take_fds(self, message: Message) -> list[int]:
        wanted = message.get("fds", 0)
        if not isinstance(wanted, int) or not 0 <= wanted <= len(self._fds):
            raise ProtocolError(f"control message announces {wanted!r} descriptors, {len(self._fds)} came")
        return [self._fds.popleft() for _ in range(wanted)]

    def close(self) -> None:
        """Close the descriptors that no message has taken."""
        while self._fds:
            close(self._fds.popleft())


def close(fd: int) -> None:
    """Close a received descriptor, unless it is NO_ROOM."""
    if fd != NO_ROOM:
        os.close(fd)


def _unpack(body: bytes) -> Message:
    try:
        message = msgpack.unpackb(body)
    except Exception as error:
        raise ProtocolError(f"control message is not msgpack: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"control message is {type(message).__name__}, not a map")
    return message


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message on a blocking socket."""
    data = encode({**message, "fds": len(fds)} if fds else message)
    sent = socket.send_fds(sock, [data], list(fds)) if fds else sock.send(data)
    if sent < len(data):
        sock.sendall(data[sent:])


def send_some(sock: socket.socket, data: bytes) -> int:
    """Send as much as the socket takes at once; 0 if it has no room. Raises OSError.

    Not `socket.send`, which waits for room where gevent has patched it.
    """
    sent: int = _libc.send(sock.fileno(), data, len(data), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    if sent >= 0:
        return sent
    number = ctypes.get_errno()
    if number in (errno.EAGAIN, errno.EINTR):
        return 0
    raise OSError(number, os.strerror(number))


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end, as the kernel knows them."""
    pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid
