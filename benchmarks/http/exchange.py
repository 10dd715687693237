"""One request of the app and its answer, as bytes: HTTP/1.1 on a connection of its own.

gunicorn's sync workers close every connection after its answer, so none is kept open here either.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

import numpy as np

Address = tuple[str, int]


class BadAnswer(Exception):
    """The server did not answer, or with an error."""


@dataclass(frozen=True)
class Answer:
    """`y` is float32 [1, 10]; the worker adds its pid and the time to its first answer."""

    y: np.ndarray
    pid: int
    first_answer_ms: float


def request(x: np.ndarray) -> bytes:
    """The request for an input float32 [1, 128]."""
    body = json.dumps({"x": x[0].tolist()}).encode()
    head = f"POST /mlp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def is_whole(raw: bytes) -> bool:
    """All of the answer is there, though the connection may be open still."""
    head, found, body = raw.partition(b"\r\n\r\n")
    return bool(found) and len(body) >= int(_header(head, b"content-length"))


def parse(raw: bytes) -> Answer:
    """Raises BadAnswer."""
    head, _, body = raw.partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0]
    if status.split(b" ")[1:2] != [b"200"]:
        raise BadAnswer(f"the app answered {status!r} {body[:300]!r}")
    found: dict[str, Any] = json.loads(body)
    return Answer(np.array([found["y"]], np.float32), found["pid"], found["first_answer_ms"])


def ask(address: Address, x: np.ndarray, timeout_s: float) -> Answer:
    """One request. Raises BadAnswer."""
    try:
        with socket.create_connection(address, timeout_s) as connection:
            connection.sendall(request(x))
            raw = b""
            while part := connection.recv(65536):
                raw += part
    except OSError as error:
        raise BadAnswer(f"no answer: {error}") from None
    return parse(raw)


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value
    raise BadAnswer(f"no {name.decode()} in {head!r}")
