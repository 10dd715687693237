"""HTTP/1.1 on one connection that is kept open: as little client as there can be: the server is measured."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.peers.place import HOST

TIMEOUT_S = 30.0
_PART = 65536


class BadResponse(Exception):
    """An error, or not HTTP as this client knows it."""


@contextmanager
def posting(port: int, path: str, media_type: str) -> Iterator[Callable[[bytes], bytes]]:
    """A function that posts a body and gives the body of the answer. Raises BadResponse, OSError."""
    with socket.create_connection((HOST, port), TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: {media_type}\r\nContent-Length: "
        )

        def post(body: bytes) -> bytes:
            connection.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body)
            return _receive(connection)

        yield post


def _receive(connection: socket.socket) -> bytes:
    raw = b""
    while (end := raw.find(b"\r\n\r\n")) < 0:
        raw += _more(connection)
    head, body = raw[:end].lower(), raw[end + 4 :]
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise BadResponse(f"no Content-Length: {raw[:300]!r}")
    length = int(head[at + 17 :].partition(b"\r\n")[0])
    while len(body) < length:
        body += _more(connection)
    if head[9:12] != b"200":
        raise BadResponse(f"{raw[:end]!r} {body[:500]!r}")
    return body


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(_PART)
    if not part:
        raise BadResponse("the server closed the connection")
    return part
