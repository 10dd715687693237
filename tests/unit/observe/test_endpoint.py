"""Slow clients of the endpoint keep nobody out, and take no more than so many threads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry

from broker.observe import http as endpoint
from broker.observe.health import Health
from broker.observe.http import Endpoint


@pytest.fixture
def address() -> Iterator[str]:
    made = Endpoint("127.0.0.1", 0)
    made.start(CollectorRegistry(), Health({}))
    yield made.addresses[0]
    made.close()


def test_many_slow_clients(address: str) -> None:
    """Three times as many as are served at a time, none of which says all it has to: the oldest give way."""
    before = threading.active_count()
    host, _, port = address.removeprefix("http://").partition(":")
    with ExitStack() as stack:
        for _ in range(3 * endpoint._MOST):
            client = stack.enter_context(socket.create_connection((host, int(port))))
            client.send(b"GET /metr")
        with urlopen(f"{address}/metrics", timeout=30) as answer:
            assert answer.status == 200
        assert threading.active_count() - before <= endpoint._MOST + 1
    with urlopen(f"{address}/metrics", timeout=30) as answer:
        assert answer.status == 200
