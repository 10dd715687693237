"""One client: posts test images over HTTP, one at a time, and keeps each answer and its time.

A connection for each request, since gunicorn's sync workers keep none open.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from time import monotonic_ns

REPORT_EVERY_NS = 100_000_000
TIMEOUT_S = 10.0

Address = tuple[str, int]


@dataclass
class ClientAnswers:
    """What came back: lists with one entry for each answer, and the time from the first request to the last answer."""

    images: list[int] = field(default_factory=list)
    digits: list[int] = field(default_factory=list)
    probabilities: list[list[float]] = field(default_factory=list)
    latencies_ns: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    start_ns: int = 0
    end_ns: int = 0

    def keep(self, image: int, status: int, body: bytes, latency_ns: int) -> None:
        if status != 200:
            self.errors.append(f"status {status}: {body[:200].decode('utf-8', 'replace')}")
            return
        answer = json.loads(body)
        self.images.append(image)
        self.digits.append(answer["digit"])
        self.probabilities.append(answer["probabilities"])
        self.latencies_ns.append(latency_ns)


def run(
    connection: Connection, address: Address, bodies: Sequence[bytes], requests: range, seconds: float
) -> None:
    """The body of its process: says that it is ready, waits for a message, so that all clients start together, sends
    how many requests it has sent, and at the end its ClientAnswers."""
    os.setsid()  # Ctrl-C must reach only the demo
    with suppress(EOFError, ConnectionError):  # the demo is gone
        connection.send("ready")
        connection.recv()
        answers = ClientAnswers(start_ns=monotonic_ns())
        _send(connection, address, bodies, requests, answers, answers.start_ns + int(seconds * 1e9))
        answers.end_ns = monotonic_ns()
        connection.send(answers)


def _send(
    connection: Connection,
    address: Address,
    bodies: Sequence[bytes],
    requests: range,
    answers: ClientAnswers,
    end_ns: int,
) -> None:
    report_ns = 0
    for number, request in enumerate(requests):
        now_ns = monotonic_ns()
        if now_ns >= end_ns:
            break
        if now_ns >= report_ns:
            connection.send(number)
            report_ns = now_ns + REPORT_EVERY_NS
        image = request % len(bodies)
        try:
            status, body = post(address, bodies[image])
            answers.keep(image, status, body, monotonic_ns() - now_ns)
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            answers.errors.append(f"{type(error).__name__}: {error}")


def post(address: Address, body: bytes, timeout_s: float = TIMEOUT_S) -> tuple[int, bytes]:
    """One request: the status and the body of the response."""
    connection = http.client.HTTPConnection(*address, timeout=timeout_s)
    try:
        connection.request("POST", "/digit", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
